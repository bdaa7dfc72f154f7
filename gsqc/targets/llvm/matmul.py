def write_matmul(*a):
    raise NotImplementedError
