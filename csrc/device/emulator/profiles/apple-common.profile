# What holds for every chip, as far as anybody has looked. Not a chip: the base of the others.
dialect = B                   # 3.1: program(1.3), ios18

# Programs
evidence = on                 # 3.3: only what has been seen to run through the direct path
opset = on                    # 1.11: bad opset is InvalidMILProgram
border-dtype = on             # 2.4
border-rank = on              # 0.3.3: what every working code base agrees on
border-shape = on             # 0.3.3
blob-metadata = on            # 4.6; M4 and M5 tolerate untrue records (4.2), and then read other numbers
border-width = on             # C47, 2.2
channel-limit = 65536         # C11
axis-limit = 65536            # C11: M4 and later; 16,384 before
contraction-limit = 65536     # C11: M4 and later; 16,384 before
conv-kernel-width = 15        # C12: 13 on M1, 15 on M5; between them the larger is assumed
conv-bias = on                # C36: ORI; nobody has seen a bias work through the direct path
runtime-conv-batch = on       # C26
zero-product = on             # C22
square-fusion = on            # C23
wide-rows = 100000            # C25
topk-three-four = on          # C10, M1 to M6
fp32-compute = on             # 2.4: fp32 is a conversion at the border
constexpr-reshape = on        # 3.3, 4.4

# Loading
live-program-limit = 119      # 1.13: 119 to 132 by observer
program-weight-bytes = 2147483648  # C32
weight-window-bytes = 4294967296   # C33

# Values
sigmoid-table = on            # 6
tanh-table = on               # 6
gelu-table = on               # 6
silu-table = on               # 6
exp-overflow = 11.094         # C72
round-limit = 1024            # C73
sdpa-mask-ignored = on        # C6: seen on M4 and M5; no chip is known to apply the mask
product-rounding = on         # 6: M1 to M6
accumulator-overflow = 32768  # C67: M1, M2 Pro, M4, M4 Pro, M4 Max, M5, M6
int8-weight-overflow = 30000  # C68
narrow-reduce-sum = on        # C69
nan-reads-as-inf = on         # C71
invalid-gives-zero = on       # 6

# Raw calls
weights-frozen = on           # C3, 1.15: M4, M5, M5 Max, M3 Ultra
load-compiles = on            # 1.3.2, 1.15
weights-buffer-ignored = on   # C4: M5, M3 Ultra
procedure-index-ignored = 15  # 1.4: M5; nobody has tried more
qos-range = 63                # 1.10, C78: M5; nobody has tried more
no-performance-stats = on     # 1.8: M5, M3 Ultra
chaining-unavailable = on     # C58, 1.12: M3 Max, M4 Max, M5, M5 Max
shared-events = 1             # C59, 1.12: crash on M5 Max
real-time-denied = on         # 1.6: M3 Max, M4 Max
