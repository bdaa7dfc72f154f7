# SPDX-License-Identifier: Apache-2.0
"""The emulated formats hold exactly what the formats hold: other implementations and values by
hand.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from benchmarks.fidelity import formats
from benchmarks.fidelity.formats import E2M1, E2M3, E3M2, E4M3, E5M2, Element
from benchmarks.fidelity.recipes import PEERS

ELEMENTS: dict[str, tuple[Element, Any]] = {
    "e4m3": (E4M3, ml_dtypes.float8_e4m3fn),
    "e5m2": (E5M2, ml_dtypes.float8_e5m2),
    "e2m3": (E2M3, ml_dtypes.float6_e2m3fn),
    "e3m2": (E3M2, ml_dtypes.float6_e3m2fn),
    "e2m1": (E2M1, ml_dtypes.float4_e2m1fn),
}


def wide_numbers() -> torch.Tensor:
    """Normal numbers from 1e-6 to 1e4, and zeros of both signs."""
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randn(20000, generator=generator) * 10.0**k for k in range(-6, 5)]
    return torch.cat([*drawn, torch.tensor([0.0, -0.0])])


@pytest.mark.parametrize("name", ELEMENTS)
def test_elements_are_those_of_ml_dtypes(name: str) -> None:
    element, dtype = ELEMENTS[name]
    every = np.arange(2**element.mantissa_bits * 2 ** (element.exponent_bits + 1))
    held = every.astype(np.uint8).view(dtype).astype(np.float32)
    held = np.unique(held[np.isfinite(held)])
    middles = (held[1:] + held[:-1]) / 2  # ties, of which half go up
    x = np.concatenate([held, middles, np.nextafter(middles, 9e9), np.nextafter(middles, -9e9)])
    x = np.concatenate([x.astype(np.float32), wide_numbers().numpy()])
    x = x.clip(-element.largest, element.largest)
    assert held[-1] == element.largest
    rounded = formats.round_element(torch.from_numpy(x), element)
    assert np.array_equal(rounded.numpy(), x.astype(dtype).astype(np.float32))


@pytest.mark.parametrize(
    ("element", "dtype"), [(E4M3, torch.float8_e4m3fn), (E5M2, torch.float8_e5m2)]
)
def test_fp8_is_that_of_torch(element: Element, dtype: torch.dtype) -> None:
    x = wide_numbers().clamp(-element.largest, element.largest)
    assert torch.equal(formats.round_element(x, element), x.to(dtype).float())


def test_elements_saturate() -> None:
    for element, _ in ELEMENTS.values():
        x = torch.tensor([element.largest * 1.7, -1e30])
        assert formats.round_element(x, element).tolist() == [element.largest, -element.largest]


def test_bf16_keeps_seven_bits_of_mantissa() -> None:
    x = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-7])  # the ties go to the even neighbour
    assert formats.bf16(x).tolist() == [1.0, 1 + 2**-6, 1 + 2**-7]


def test_fp8_scales_the_largest_to_the_elements_largest() -> None:
    x = torch.tensor([[896.0, 6.0, 0.01], [-448.0, 1.0, 0.0]])  # half of it is E4M3
    expected = [[896.0, 6.0, 2 * 3 * 2**-9], [-448.0, 1.0, 0.0]]  # 0.005 is 2.56 steps of 2^-9
    assert formats.fp8(x, E4M3).tolist() == expected


def test_mx_blocks_by_hand() -> None:
    """FP4 in two groups of 32. The first has 7: its scale is 2^(2 - 2), and 7 saturates at 6. The
    second has 40: its scale is 2^(5 - 2) = 8.
    """
    first = [7.0, 2.5, -2.5, 3.5, 0.25, 0.75, 0.2, -0.3] + [0.0] * 24
    second = [40.0, 12.0, -20.0, 2.0, 6.0, 1.9, 0.0, 28.0]
    by_hand = [6.0, 2.0, -2.0, 4.0, 0.0, 1.0, 0.0, -0.5] + [0.0] * 24
    # 40 / 8 = 5 is a tie of 4 and 6, and 4 is even. 20 / 8 = 2.5 goes to 2, 0.25 to 0, 0.75 to 1.
    by_hand += [32.0, 12.0, -16.0, 0.0, 8.0, 0.0, 0.0, 32.0]
    assert formats.mx(torch.tensor(first + second), E2M1).tolist() == by_hand


@pytest.mark.parametrize("name", ELEMENTS)
def test_mx_is_the_element_at_the_specifications_scale(name: str) -> None:
    element, dtype = ELEMENTS[name]
    generator = np.random.default_rng(2)
    x = generator.standard_normal((5, 96)).astype(np.float32) * 2.0 ** generator.integers(-9, 9, 96)
    x = x.astype(np.float32)
    groups = x.reshape(5, 3, 32)
    shared = np.floor(np.log2(np.abs(groups).max(-1, keepdims=True))) - element.largest_exponent
    scale = np.exp2(shared).astype(np.float32)
    held = (groups / scale).clip(-element.largest, element.largest).astype(dtype)
    expected = (held.astype(np.float32) * scale).reshape(5, 96)
    assert np.array_equal(formats.mx(torch.from_numpy(x), element).numpy(), expected)


def test_nvfp4_blocks_by_hand() -> None:
    """The tensor's largest is 2688 = 6 · 448, so its scale is 1. The second group has 30: its scale
    5 is an E4M3. The third has 3.18: 0.53 goes to 0.5, so 3.18 is cut to 3.
    """
    groups = [
        [2688.0, 448.0, 600.0] + [0.0] * 13,
        [30.0, 12.5, -7.5, 1.0] + [0.0] * 12,
        [3.18, 0.6] + [0.0] * 14,
    ]
    by_hand = [
        [2688.0, 448.0, 1.5 * 448] + [0.0] * 13,
        [30.0, 10.0, -7.5, 0.0] + [0.0] * 12,  # 12.5 / 5 is a tie, and so is 1 / 5 < 0.25
        [3.0, 0.5] + [0.0] * 14,
    ]
    x = torch.tensor(groups).flatten()
    assert formats.nvfp4(x).tolist() == torch.tensor(by_hand).flatten().tolist()


def test_int8_has_one_scale_a_row() -> None:
    x = torch.tensor([[127.0, 0.5, 1.5, -2.4], [-25.4, 0.09, 0.1, 0.31]])
    expected = torch.tensor([[127.0, 0.0, 2.0, -2.0], [-127, 0, 0, 2]])
    expected[1] *= torch.tensor(25.4) / 127
    assert torch.equal(formats.int8_per_channel(x), expected)


@pytest.mark.parametrize("bits", [5, 6, 8])
def test_gse_is_its_definition(bits: int) -> None:
    """In exact fractions, on numbers within the 31 octaves: scales and mantissas, ties too."""
    generator = np.random.default_rng(3)
    m = generator.integers(-(2**15) + 1, 2**15, (6, 3, 32))
    m[:, 1] >>= 4
    m[2, 2] = 0
    most = 2 ** (bits - 1)
    expected = []
    for group in m.reshape(-1, 32).tolist():
        scale = Fraction(1, 2**20)
        while max(map(abs, group)) >= most * scale:
            scale *= 2
        rounded = [math.floor(v / scale + Fraction(1, 2)) for v in group]
        expected += [float(min(max(v, 1 - most), most - 1) * scale) for v in rounded]
    x = torch.from_numpy(m.reshape(6, 96).astype(np.float32))
    assert formats.gse(x, bits).flatten().tolist() == expected


def test_gse_by_hand() -> None:
    """5 bits, largest 15.5: the scale is 1, and 15.5 goes up to 16 and is clamped to 15."""
    x = torch.tensor([15.5, 0.5, -0.5, 1.4, -1.5, -1.6])
    assert formats.gse(x, 5).tolist() == [15.0, 1.0, 0.0, 1.0, -1.0, -2.0]
    far = torch.tensor([1.0] * 32 + [2.0**-40] * 32)  # 31 octaves are not enough
    assert formats.gse(far, 5).tolist() == [1.0] * 32 + [0.0] * 32


def test_nf4_takes_the_nearest_level() -> None:
    """One block has one scale, which the second quantisation leaves as it is."""
    levels = torch.tensor(formats.NF4_LEVELS)
    x = torch.cat([levels, levels + 0.01, torch.zeros(32)]) * 3
    rounded = formats.nf4(x.clamp(-3, 3))
    assert torch.equal(rounded[:16], levels * 3)
    assert torch.equal(rounded[16:32], levels * 3)


@pytest.mark.parametrize("peer", PEERS)
def test_operands_that_are_said_to_be_short_are_bfloat16(peer: str) -> None:
    recipe, x = PEERS[peer], wide_numbers()[-20000:].reshape(200, 100)
    each = (recipe.operand, recipe.gradient, recipe.other)
    assert recipe.short == all(torch.equal(formats.bf16(r(x)), r(x)) for r in each)


ZEROS = {
    "fp8": partial(formats.fp8, element=E4M3),
    "mx": partial(formats.mx, element=E2M1),
    "nvfp4": formats.nvfp4,
    "int8": formats.int8_per_channel,
    "gse": partial(formats.gse, bits=5),
    "nf4": formats.nf4,
}


@pytest.mark.parametrize("rounding", ZEROS.values(), ids=ZEROS)
def test_zeros_and_short_groups(rounding: formats.Format) -> None:
    assert not rounding(torch.zeros(3, 40)).any()
    x = torch.full((3, 40), 2.0)
    assert torch.equal(rounding(x), x)
