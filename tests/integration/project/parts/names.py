BIAS = True
