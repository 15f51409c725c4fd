base = apple-m1
chip = Apple M1 Ultra
cores = 32                    # 1.8
engines = 2                   # 1.8
program-weight-bytes = 1073741824  # C33: banks of about 1 GiB
