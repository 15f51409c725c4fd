base = apple-m3
chip = Apple M3 Pro
