# No chip: every operation rounded once to fp16, wide sums, no quirks. What a program means.
chip = none, exact arithmetic
architecture = none
sub_type = none
cores = 0
engines = 0
dialect = B
border-dtype = on             # 2.4
blob-metadata = on            # 4.6; M4 and M5 tolerate untrue records (4.2), and then read other numbers
border-width = on             # the border is dense in every executor
opset = on                    # 1.11
