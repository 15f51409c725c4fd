base = apple-m1
chip = Apple M1 Pro
new-dialect = off             # 4.2: a program(1.3) trainer runs on M1 Pro (macOS 15)
