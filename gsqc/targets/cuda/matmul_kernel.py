# SPDX-License-Identifier: Apache-2.0
"""The exact matmul on a GPU: device/matmul.cuh called with a kernel's sizes."""

from __future__ import annotations

from gsqc.numerics.formats import GROUP, WINDOW, largest_operand
from gsqc.numerics.operators.trace import Trace
from gsqc.targets.cuda.writer import KernelSource, Launch, Tables, kernel_source

TILE, TILE_THREADS = 64, 128
FEW_ROWS, FEW_WARPS = 8, 4
"""As in device/matmul.cuh."""


def write_matmul_kernel(symbol: str, trace: Trace, x_bits: int, w_bits: int) -> KernelSource:
    """The kernel of a `gse_matmul` trace: x (m, d, e), w (m, d, e) -> int32.

    Row exponents are not read: the caller adds them to the result's own.
    """
    x, w = trace.inputs[0].shape, trace.inputs[3].shape
    batch, m, c, k = (x[0] if len(x) == 3 else 1), x[-2], w[-2], x[-1]
    shift = next(n.attributes["shift"] for n in trace.nodes if n.operator == "matmul")
    dot = GROUP * largest_operand(x_bits) * largest_operand(w_bits)
    sizes = f"{m}, {c}, {k}, {batch}, {2 * WINDOW}, {dot}, {shift}"
    # A tile of tensor cores multiplies 64 rows, however few there are. For a row or a few, reading
    # w is all the work, and a warp per column does it with dp4a.
    if m <= FEW_ROWS:
        launch, block = Launch(-(-batch * c // FEW_WARPS), FEW_WARPS * 32), "few_rows_block"
    else:
        launch, block = Launch(batch * -(-m // TILE) * -(-c // TILE), TILE_THREADS), "matmul_block"
    body = [
        f"const Product product = {{input0, input1, input3, input4, output0, {sizes}}};",
        f"{block}(product);",
    ]
    return kernel_source(symbol, trace, launch, body, Tables())
