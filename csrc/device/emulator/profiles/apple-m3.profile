# The M3 generation (H15).
base = apple-common
architecture = h15g           # 1.8: M3, M3 Ultra
sub_type = h15                # 1.8
cores = 16                    # 1.8
engines = 1                   # 1.8
axis-limit = 16384            # C11
contraction-limit = 16384     # C11
denormal-flush = -14          # C70: measured on M3 Ultra
shared-events = 2             # C59, 1.12: never return on M3 Max
ties-up = on                  # 6: measured on M3 Ultra
