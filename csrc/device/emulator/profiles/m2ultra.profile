base = apple-m2
chip = Apple M2 Ultra
cores = 32                    # 1.8
engines = 2                   # 1.8
