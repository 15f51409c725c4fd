# The M1 generation (H13).
base = apple-common
architecture = h13g           # 1.8: M1 Max; the others are taken to be alike
sub_type = h13                # 0.2
cores = 16                    # 1.8
engines = 1                   # 1.8
dialect = A                   # 3.1: program(1.0), ios16 is the safe choice
new-dialect = on              # 3.1: program(1.3) is partial on M1
border-fp32 = on              # C17
cast = on                     # 3.3: not on M1 and M2
trigonometry = on             # 3.3: sin and cos need an M3
axis-limit = 16384            # C11
contraction-limit = 16384     # C11
conv-kernel-width = 13        # C12
width-slice-saturation = 4094 # C54
denormal-flush = -14          # C70: measured on M1
tile-of-four = 4              # 6: measured on M1
