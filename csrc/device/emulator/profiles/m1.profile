base = apple-m1
chip = Apple M1
