base = apple-m4
chip = Apple M4
conv-input-channels = 32000   # C11
blobfile-weights = 16         # C14: macOS 26.5.2
