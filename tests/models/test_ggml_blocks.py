# SPDX-License-Identifier: Apache-2.0
"""Codes of GGUF files against gguf-py, whose results equal llama.cpp's dequantize_row bit for bit.

Blocks hold random bits, not only what a quantiser makes of weights.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("gguf")

import gguf

from gsqc.errors import ModelError, OptionError
from gsqc.models.base_codes import base_codes, is_exact, joined_kind
from gsqc.models.block_layout import joined, stored
from gsqc.models.ggml_blocks import LAYOUTS, READERS, blocks_of
from gsqc.numerics.ops.registry import OPS, evaluate

HALVES = {
    **dict.fromkeys(("q4_0", "q5_0", "q8_0", "iq4_nl", "iq4_xs"), (0,)),
    **dict.fromkeys(("q4_1", "q5_1", "q4_k", "q5_k"), (0, 2)),
    **{"q2_k": (80, 82), "q3_k": (108,), "q6_k": (208,), "tq1_0": (52,), "tq2_0": (64,)},
    **{"mxfp4": (), "nvfp4": ()},
}
"""The bytes at which a block's fp16 numbers begin."""
ROWS, COLUMNS = 12, 768


def ggml_type(kind: str) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType[kind.upper()]


def random_blocks(kind: str, seed: int = 0, columns: int = COLUMNS) -> np.ndarray:
    """uint8 [ROWS, bytes]: any bits, scales of a model's size, a row of zero scales."""
    rng = np.random.default_rng(seed)
    numbers, size = gguf.GGML_QUANT_SIZES[ggml_type(kind)]
    raw = rng.integers(0, 256, (ROWS, columns // numbers, size), dtype=np.uint8)
    for place in HALVES[kind]:
        halves = rng.standard_normal(raw.shape[:2]) * np.exp(rng.uniform(-9, 0, (ROWS, 1)))
        halves[0] = 0
        raw[..., place : place + 2] = halves.astype(np.float16)[..., None].view(np.uint8)
    if kind == "mxfp4":  # exponents of numbers that float32 and the row hold
        raw[..., 0] = rng.integers(110, 130, raw.shape[:2])
    return raw.reshape(ROWS, -1)


class Weights:
    """One weight of a file, by the name of its format; float32 ones for others."""

    def raw_blocks(self, name: str) -> np.ndarray:
        return random_blocks(name)

    def float32(self, name: str) -> np.ndarray:
        rng = np.random.default_rng(1)
        return rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)

    def code_kind(self, name: str) -> str:
        return name if name in READERS else "gse8"


def theirs(kind: str, columns: int = COLUMNS) -> np.ndarray:
    found: np.ndarray = gguf.quants.dequantize(
        random_blocks(kind, columns=columns), ggml_type(kind)
    )
    return found


@pytest.mark.parametrize("kind", READERS)
def test_the_codes_of_a_file_are_kept(kind: str) -> None:
    """Equal to ggml's float32 result, bit for bit. A sum with an offset is rounded there to 24
    bits, and here at 2^-25 of its larger part or finer.
    """
    codes = base_codes(Weights(), kind, kind)
    assert codes.kind == kind
    assert codes.lost == 0
    got, right = codes.float32(), theirs(kind)
    if LAYOUTS[kind].offset:
        assert (np.abs(got - right) <= np.abs(right).max(1, keepdims=True) * 2.0**-23).all()
    else:
        np.testing.assert_array_equal(got, right)


def test_every_type_with_codes_is_kept_or_named() -> None:
    """All that gguf-py can dequantise, but floats and the kinds of grids."""
    known = {kind.name.lower() for kind in gguf.quants._type_traits}
    grids = {k for k in known if k.startswith(("iq1", "iq2", "iq3"))}
    assert known - grids - {"f16", "bf16"} == set(READERS)
    assert set(HALVES) == set(READERS)


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        *(("q4_0", 4.75), ("q5_0", 5.75), ("q8_0", 8.75), ("q2_k", 3.2), ("q3_k", 3.6)),
        *(("q4_k", 4.7), ("q5_k", 5.7), ("q6_k", 6.6), ("tq2_0", 2.1), ("iq4_xs", 4.35)),
        *(("q4_k+q6_k", 7.3), ("q5_0+q8_0", 8.75), ("iq4_nl+iq4_xs", 5.0)),
    ],
)
def test_bits_per_weight(kind: str, most: float) -> None:
    """Scales of fp16 take a byte more than in the file, and steps of 6 bits take 8."""
    codes = base_codes(Weights(), kind.split("+")[0], kind)
    assert most - 0.3 < codes.bits_per_weight <= most


@pytest.mark.parametrize("pair", list(combinations(READERS, 2)), ids="+".join)
def test_two_formats_share_a_layout(pair: tuple[str, str]) -> None:
    """Exact without offsets. With them, the sum of two parts is rounded: 2^-20 of the row's
    largest.
    """
    kind = joined_kind(pair)
    offset = any(LAYOUTS[k].offset for k in pair)
    shapes = []
    for own in pair:
        codes = base_codes(Weights(), own, kind)
        shapes.append([(key, a.shape, a.dtype) for key, a in codes.arrays.items()])
        got, right = codes.float32(), theirs(own)
        if not offset:
            np.testing.assert_array_equal(got, right)
        most = np.abs(right).max(1, keepdims=True) * 2.0**-20
        assert (np.abs(got - right) <= most).all()
        assert codes.attributes == base_codes(Weights(), pair[0], kind).attributes
    assert shapes[0] == shapes[1]
    assert is_exact(kind)


def test_floats_beside_codes_become_gse8() -> None:
    kind = joined_kind(["q4_k", "gse8"])
    assert kind == "gse8+q4_k"
    assert not is_exact(kind)
    made, kept = (base_codes(Weights(), name, kind) for name in ("floats", "q4_k"))
    alone = base_codes(Weights(), "floats", "gse8")
    np.testing.assert_array_equal(made.float32(), alone.float32())
    assert made.lost == alone.lost > 0 == kept.lost
    right = theirs("q4_k")
    most = np.abs(right).max(1, keepdims=True) * 2.0**-20
    assert (np.abs(kept.float32() - right) <= most).all()


@pytest.mark.parametrize("columns", [32, 64, 576, 1536])
def test_rows_of_any_number_of_blocks(columns: int) -> None:
    """A row that cannot be cut into the parts of a plane has wider codes."""
    codes = stored(blocks_of(random_blocks("q5_0", 0, columns), "q5_0"), "q5_0", LAYOUTS["q5_0"])
    np.testing.assert_array_equal(codes.float32(), theirs("q5_0", columns))
    widths = {32: [8], 64: [4, 2], 576: [4, 2], 1536: [4, 1]}
    assert codes.attributes["widths"] == widths[columns]


def test_q4_1_of_any_scales() -> None:
    """Random fp16 bits, not only a model's: within 2^-28 of a row's largest."""
    rng = np.random.default_rng(5)
    raw = rng.integers(0, 256, (40, 3, 20), dtype=np.uint8)
    raw[..., 1] &= 0xBF  # |scale| and |offset| below 2
    raw[..., 3] &= 0xBF
    halves = np.ascontiguousarray(raw[..., :4]).view(np.float16).astype(np.float64)
    nibbles = np.concatenate([raw[..., 4:] & 15, raw[..., 4:] >> 4], -1)
    expected = (nibbles * halves[..., :1] + halves[..., 1:]).reshape(40, -1)
    codes = stored(blocks_of(raw.reshape(40, -1), "q4_1"), "q4_1", LAYOUTS["q4_1"])
    row = evaluate(OPS["dequantise_q4_1"], list(codes.arrays.values()), {"columns": 96})
    error = np.abs(np.ldexp(row.m.astype(np.float64), row.e) - expected)
    assert (error <= np.abs(expected).max(1, keepdims=True) * 2**-28).all()


def test_subnormal_and_negative_scales_are_exact() -> None:
    raw = np.zeros((1, 34), np.uint8)
    raw[0, :2] = np.frombuffer(np.float16(-3 * 2.0**-24).tobytes(), np.uint8)
    raw[0, 2:] = np.arange(-16, 16, dtype=np.int8).view(np.uint8)
    codes = stored(blocks_of(raw, "q8_0"), "q8_0", LAYOUTS["q8_0"])
    np.testing.assert_array_equal(codes.float32()[0], np.arange(-16, 16) * (-3 * 2.0**-24))


def test_bad_blocks_are_refused() -> None:
    with pytest.raises(ModelError, match="34"):
        blocks_of(np.zeros((2, 33), np.uint8), "q8_0")
    with pytest.raises(ModelError, match="finite"):
        blocks_of(np.full((2, 34), 255, np.uint8), "q8_0")
    with pytest.raises(OptionError, match="iq2_xs"):
        base_codes(Weights(), "w", "iq2_xs")
    with pytest.raises(OptionError, match="nf4"):
        base_codes(Weights(), "w", "nf4+q4_k")


def test_a_joined_layout_does_not_depend_on_the_order() -> None:
    for a, b in combinations(LAYOUTS.values(), 2):
        assert joined([a, b]) == joined([b, a]) == joined([a, b, a])
