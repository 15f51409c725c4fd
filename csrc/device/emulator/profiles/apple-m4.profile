# The M4 generation (H16).
base = apple-common
architecture = h16g           # 1.8: M4
sub_type = h16                # 0.2
cores = 16                    # 1.8
engines = 1                   # 1.8
