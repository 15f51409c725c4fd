# The M2 generation (H14).
base = apple-common
architecture = h14g           # by the pattern of the others
sub_type = h14                # 0.2
cores = 16                    # 1.8
engines = 1                   # 1.8
dialect = A                   # 3.1
new-dialect = on              # 3.1: program(1.3) is partial on M2
border-fp32 = on              # C17
cast = on                     # 3.3: not on M1 and M2
trigonometry = on             # 3.3
axis-limit = 16384            # C11
contraction-limit = 16384     # C11
width-slice-saturation = 4094 # C54
width-slice-concat = on       # C54, 3.3: H14
denormal-flush = -14          # C70: measured on M1 and M3 Ultra, the neighbours
