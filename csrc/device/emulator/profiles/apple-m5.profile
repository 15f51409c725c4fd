# The M5 generation (H17; a report that calls the base M5 H16 is not followed).
base = apple-common
architecture = h17g           # 1.8: M5 Max
sub_type = h17                # 0.2 (!)
cores = 16                    # 1.8
engines = 1                   # 1.8
ties-up = on                  # 6: measured on M5
