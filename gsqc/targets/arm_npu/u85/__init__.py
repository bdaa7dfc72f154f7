# SPDX-License-Identifier: Apache-2.0
"""An interpreter of the Ethos-U85 command stream: a second reading of a compiled program,
independent of gsqc's ops.

    run.py            reads Vela's raw output, and runs a program on arrays
    registers.py      the numbers of opcodes and registers, and the values of their fields
    register_file.py  the registers while a stream is decoded
    decode.py         command words -> operations (decode_parts.py, operation.py)
    execute.py        what an operation reads, computes and writes
    arithmetic.py     what it computes on elements
    memory.py         regions, poison, feature maps
    weights.py        compressed constant weights -> a matrix
    summary.py        operations counted by kind

Modelled: CONV of one pixel (weights from a second input, or constant), POOL (MAX, MIN, SUM,
REDUCE_SUM, NONE), all ELEMENTWISE operations but LRELU, DMA with strides and indices. Maps have 8,
16, 32 or 64 bits, row-major or in bricks of 16 channels, in up to four tiles. There are broadcasts,
transposed outputs, chaining, the int16 table, global and per-channel scales. Anything else is an
error whose text names it.

Time is not modelled. Operations run one after another, so a wait that Vela forgot is not found.
Where Arm documents no behaviour (an overflow, a rounding that no program of gsqc uses), the
interpreter stops instead of guessing. It has been compared with Arm's TOSA reference model through
Vela, but not with silicon or with Arm's Fixed Virtual Platform.
"""
