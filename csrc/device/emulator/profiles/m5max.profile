base = apple-m5
chip = Apple M5 Max
