# SPDX-License-Identifier: Apache-2.0
"""An interpreter of the Ethos-U85 command stream: a second reading of a compiled program,
independent of gsqc's ops.

    run.py         Vela's raw output, and a program run on arrays           registers.py   the numbers
    decode.py      command words -> operations (operation.py)               memory.py      regions, poison, feature maps
    execute.py     what an operation reads, computes and writes             arithmetic.py  what it computes on elements
    weights.py     constant weights                                         summary.py     operations counted by kind

Modelled: CONV of one pixel (weights from a second input, or constant), POOL (MAX, MIN, SUM,
REDUCE_SUM, NONE), all ELEMENTWISE operations but LRELU, DMA with strides and indices; 8-, 16-, 32-
and 64-bit maps, row-major or in bricks of 16 channels, in up to four tiles; broadcasts, transposed
outputs, chaining, the int16 table, global and per-channel scales. All else is an error that names
it.

Not modelled: time. Operations run one after another, so a wait that Vela forgot is not found. Where
Arm documents no behaviour (an overflow, a rounding that no program of ours uses) the interpreter
stops instead of guessing. It has not been compared with silicon or with Arm's Fixed Virtual
Platform, only with Arm's TOSA reference model through Vela.
"""
