base = apple-m5
chip = Apple M5
quantize = on                 # C35: M0
