# SPDX-License-Identifier: Apache-2.0
"""Constant weights of a 1 × 1 convolution: compressed streams -> the matrix [output channel, input
channel].

A core reads its own stream. Vela's codec expands it into numbers, in the order in which the
hardware consumes them. That order was taken from Vela's sources
(regor/architecture/ethosu85/ethos_u85_weight_encoder.cpp, GetNext, and ethos_u85.cpp,
FindBlockConfig, for the depth of a block of input channels).
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import CommandStreamError, TargetError
from gsqc.targets.arm_npu.u85.memory import Memory
from gsqc.targets.arm_npu.u85.operation import Weights
from gsqc.targets.arm_npu.u85.register_file import HINT, unmodelled

Array = npt.NDArray[Any]
_CODEC = """
import array, sys
from ethosu.mlw_codec import decode
given = sys.stdin.buffer
for length in map(int, sys.argv[1:]):
    numbers = array.array("h", decode(bytearray(given.read(length))))
    sys.stdout.buffer.write(len(numbers).to_bytes(8, "little") + numbers.tobytes())
"""
_MICROBLOCK_AREA = (1, 2, 4, 4, 8, 16)
_DOT = 8
"""Input channels that a multiplier tree takes at once."""
_INTERLEAVE = 4
"""Output channels that a core takes in turn."""


def _expand(streams: list[bytes]) -> list[Array]:
    """The numbers of each stream."""
    # The codec ends its process at a damaged stream, so it gets a process of its own.
    if importlib.util.find_spec("ethosu") is None:
        raise TargetError("ethos-u-vela is not installed", "pip install 'gsqc[npu]'")
    command = [sys.executable, "-c", _CODEC, *(str(len(stream)) for stream in streams)]
    done = subprocess.run(command, input=b"".join(streams), capture_output=True, check=False)
    if done.returncode:
        raise CommandStreamError("a stream of compressed weights is damaged", HINT)
    result, at = [], 0
    for _ in streams:
        count = int.from_bytes(done.stdout[at : at + 8], "little")
        result.append(np.frombuffer(done.stdout, np.int16, count, at + 8).astype(np.int64))
        at += 8 + 2 * count
    return result


def _blocks(size: int, block: int, *, backwards: bool = False) -> Iterator[tuple[int, int]]:
    """(start, size) of the blocks of `block` elements of an axis."""
    starts = range(0, size, block)
    for start in reversed(starts) if backwards else starts:
        yield start, min(block, size - start)


def _order(
    weights: Weights, core: int, depth: int, ifm_depth: int, bits: int
) -> tuple[Array, Array]:
    """Output and input channel of every number of a core's stream. Channels beyond the matrix are
    padding.

    Blocks of input channels are walked forwards and backwards by turns, so that the last one is
    used twice.
    """
    # The sizes of Vela's FindBlockConfig and GetNext: a fact of its sources, not a choice.
    cores = len(weights.streams)
    micro = weights.macs // (_DOT * _MICROBLOCK_AREA[weights.microblock])
    short = weights.macs <= 256 and micro == 16
    ifm_block = 16 if weights.part_kernel_first else 32 if short else 64
    ifm_micro, rounds = ifm_block, 1
    if weights.part_kernel_first:
        ifm_micro, rounds = (8, 10) if bits == 16 else (ifm_block, 5)
    # Output channels go round the cores in fours, so a core's own lie `cores` fours apart.
    own = np.arange(core * _INTERLEAVE, micro, cores * _INTERLEAVE)
    tile = np.broadcast_arrays(
        (own[:, None] + np.arange(_INTERLEAVE)).reshape(1, -1, 1),
        np.arange(ifm_micro).reshape(-1, 1, _DOT),
    )
    outs, ins = (t.reshape(-1) for t in tile)
    # Weights of a larger kernel would fill all rounds. One of 1 × 1 has the first round alone.
    padding = np.full((rounds - 1) * outs.size, -1)
    result: list[tuple[Array, Array]] = []
    for turn, (out, out_size) in enumerate(_blocks(depth, weights.ofm_block)):
        for inp, in_size in _blocks(ifm_depth, ifm_block, backwards=turn % 2 == 1):
            for inner, _ in _blocks(in_size, ifm_micro):
                for outer, _ in _blocks(out_size, micro):
                    result += [(outs + (out + outer), ins + (inp + inner)), (padding, padding)]
    return np.concatenate([o for o, _ in result]), np.concatenate([i for _, i in result])


def read_weights(memory: Memory, weights: Weights, depth: int, ifm_depth: int, bits: int) -> Array:
    """The matrix [depth, ifm_depth]. `bits` is the width of the input that it multiplies."""
    # No program of gsqc has it, so no test could show that its order is read right.
    if weights.fast:
        raise unmodelled("weights in the fast format")
    matrix = np.zeros((depth, ifm_depth), np.int64)
    streams = [
        memory.bytes_at(weights.region, address, length) for address, length in weights.streams
    ]
    for core, numbers in enumerate(_expand(streams)):
        out, inp = _order(weights, core, depth, ifm_depth, bits)
        if len(numbers) < len(out):
            raise CommandStreamError(
                f"a weight stream holds {len(numbers)} numbers of {len(out)}", HINT
            )
        # Blocks at the edge hold numbers for channels that the matrix does not have.
        inside = (out >= 0) & (out < depth) & (inp < ifm_depth)
        matrix[out[inside], inp[inside]] = numbers[: len(out)][inside]
    return matrix
