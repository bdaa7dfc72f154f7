# SPDX-License-Identifier: Apache-2.0
"""Codes against the formats they stand for: a float NF4, ggml's dequantisation, and rounding to a
shared exponent.
"""

from __future__ import annotations

import numpy as np
import pytest

from gsqc.errors import ModelError, OptionError
from gsqc.models.codes import ENCODERS, Codes, encode_row16
from gsqc.models.gguf_codes import GGUF_READERS, base_codes
from gsqc.numerics.ops.dequantise import NF4_LEVELS
from gsqc.numerics.ops.registry import OPS, evaluate


def weights(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Like a model's: normal, with a spread of row scales, a zero row and an outlier."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((rows, columns)) * np.exp(rng.uniform(-4, 0, (rows, 1))) * 0.1
    w[0] = 0
    w[1, 0] *= 100
    return w.astype(np.float32)


@pytest.mark.parametrize(("columns", "block"), [(128, 64), (96, 32), (70, 32)])
def test_nf4_is_the_nearest_level(columns: int, block: int) -> None:
    """Scale and levels have 15 bits: 2^-14 of the block's largest."""
    w = weights(20, columns)
    codes = ENCODERS["nf4"](w)
    padded = np.pad(w, ((0, 0), (0, -columns % block))).reshape(20, -1, block).astype(np.float64)
    scale = np.abs(padded).max(-1, keepdims=True)
    levels = np.asarray(NF4_LEVELS)
    nearest = np.abs((padded / np.where(scale > 0, scale, 1))[..., None] - levels).argmin(-1)
    expected = (levels[nearest] * scale).reshape(20, -1)[:, :columns]
    got = codes.float32()
    error = np.abs(got - expected) / np.maximum(
        np.repeat(scale[..., 0], block, 1)[:, :columns], 1e-30
    )
    assert (error > 5e-5).mean() < 1e-3  # a number between two levels may go to the other one
    assert np.abs(got - w).max() <= (0.16 * np.repeat(scale[..., 0], block, 1)[:, :columns]).max()


@pytest.mark.parametrize(("kind", "bits"), [("gse4", 4), ("gse8", 8)])
@pytest.mark.parametrize("columns", [96, 70])
def test_gse_rounds_to_the_group(kind: str, bits: int, columns: int) -> None:
    """At most one step off (half a step, and a whole one where the largest is clamped)."""
    w = weights(12, columns)
    got = ENCODERS[kind](w).float32()
    groups = np.pad(np.abs(w), ((0, 0), (0, -columns % 32))).reshape(12, -1, 32).max(-1)
    step = np.ldexp(1.0, np.frexp(groups)[1] - (bits - 1))
    error = np.abs(got - w) / np.repeat(step, 32, 1)[:, :columns]
    assert error.max() <= 1
    assert (error > 0.5).mean() < 0.05


def test_norm_weights_keep_16_bits() -> None:
    w = np.random.default_rng(3).uniform(0.1, 3, 37).astype(np.float32)
    codes = encode_row16(w)
    assert codes.shape == (1, 37)
    assert np.abs(codes.float32()[0] - w).max() <= 3 * 2**-15


@pytest.mark.parametrize(("name", "exact"), [("Q4_1", True), ("Q4_0", True), ("Q8_0", True)])
def test_gguf_codes_are_the_files_own(name: str, exact: bool) -> None:
    """Equal to ggml's float32 result, bit for bit."""
    gguf = pytest.importorskip("gguf")
    kind = gguf.GGMLQuantizationType[name]
    raw = gguf.quants.quantize(weights(24, 192), kind)
    codes = GGUF_READERS[name.lower()](raw)
    np.testing.assert_array_equal(codes.float32(), gguf.quants.dequantize(raw, kind))


def test_q4_1_of_any_scales() -> None:
    """Random fp16 bits, not only what a quantiser makes: within 2^-28 of a row's largest."""
    rng = np.random.default_rng(5)
    raw = rng.integers(0, 256, (40, 3, 20), dtype=np.uint8)
    raw[..., 1] &= 0xBF  # |scale| and |offset| below 2
    raw[..., 3] &= 0xBF
    halves = np.ascontiguousarray(raw[..., :4]).view(np.float16).astype(np.float64)
    nibbles = np.concatenate([raw[..., 4:] & 15, raw[..., 4:] >> 4], -1)
    expected = (nibbles * halves[..., :1] + halves[..., 1:]).reshape(40, -1)
    row = evaluate(
        OPS["dequantise_q4_1"],
        list(GGUF_READERS["q4_1"](raw.reshape(40, -1)).arrays.values()),
        {"columns": 96},
    )
    error = np.abs(np.ldexp(row.m.astype(np.float64), row.e) - expected)
    assert (error <= np.abs(expected).max(1, keepdims=True) * 2**-28).all()


def test_subnormal_and_negative_scales_are_exact() -> None:
    raw = np.zeros((1, 34), np.uint8)
    raw[0, :2] = np.frombuffer(np.float16(-3 * 2.0**-24).tobytes(), np.uint8)
    raw[0, 2:] = np.arange(-16, 16, dtype=np.int8).view(np.uint8)
    np.testing.assert_array_equal(
        GGUF_READERS["q8_0"](raw).float32()[0], np.arange(-16, 16) * (-3 * 2.0**-24)
    )


@pytest.mark.parametrize(("kind", "bits"), [("nf4", 4.375), ("gse4", 4.25), ("gse8", 8.25)])
def test_bits_per_weight(kind: str, bits: float) -> None:
    assert ENCODERS[kind](weights(8, 128)).bits_per_weight == bits


class _Weights:
    def float32(self, name: str) -> np.ndarray:
        return weights(4, 64)

    def raw_blocks(self, name: str) -> np.ndarray:
        return np.zeros((4, 68), np.uint8)


def test_base_codes_choose_by_kind() -> None:
    kinds = {kind: base_codes(_Weights(), "w", kind) for kind in ("nf4", "gse8", "q8_0")}
    assert all(
        isinstance(c, Codes) and c.kind == kind and c.shape == (4, 64) for kind, c in kinds.items()
    )
    with pytest.raises(OptionError):
        base_codes(_Weights(), "w", "q2_k")


def test_bad_weights_are_refused() -> None:
    with pytest.raises(ModelError, match="NaN"):
        ENCODERS["nf4"](np.full((2, 32), np.nan, np.float32))
    with pytest.raises(ModelError, match="34"):
        GGUF_READERS["q8_0"](np.zeros((2, 33), np.uint8))
    with pytest.raises(ModelError, match="finite"):
        GGUF_READERS["q8_0"](np.full((2, 34), 255, np.uint8))
