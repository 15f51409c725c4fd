base = apple-m2
chip = Apple M2
