base = apple-m4
chip = Apple M4 Pro
