base = apple-m4
chip = Apple M4 Max
blobfile-weights = 16         # C14: macOS 15
