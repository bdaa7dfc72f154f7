def write_layout_program(*a):
    raise NotImplementedError
