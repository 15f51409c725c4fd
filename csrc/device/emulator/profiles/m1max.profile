base = apple-m1
chip = Apple M1 Max
new-dialect = off             # 4.2: a program(1.3) trainer runs on M1 Max (macOS 15)
