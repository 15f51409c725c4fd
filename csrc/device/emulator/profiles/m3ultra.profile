base = apple-m3
chip = Apple M3 Ultra
cores = 32                    # 1.8
engines = 2                   # 1.8
live-program-limit = 121      # 1.13: OM
program-weight-bytes = 4026531840  # C33: banks are split at 3.75 GiB
width-rope = on               # C18
interior-partial-overflow = 2 # 6: H3, zero
