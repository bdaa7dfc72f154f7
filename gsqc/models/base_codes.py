# SPDX-License-Identifier: Apache-2.0
"""The codes of a frozen weight: from the blocks of its GGUF file, exactly, or made from float32."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from gsqc.errors import OptionError
from gsqc.models.block_layout import Blocks, joined, stored
from gsqc.models.codes import FLOAT_KINDS, Codes, encode
from gsqc.models.ggml_blocks import LAYOUTS, READERS, blocks_of
from gsqc.models.loaded import WeightSource

_OWN_OPS = ("q4_0", "q4_1", "q8_0")
"""Formats that have an op of their own, `dequantise_<kind>`. It reads the same arrays."""


def joined_kind(kinds: Iterable[str]) -> str:
    """The kind of codes that holds weights of these kinds, as `q4_k+q6_k`."""
    return "+".join(sorted(set(kinds)))


def is_exact(kind: str) -> bool:
    """Whether codes of a kind hold the numbers of a GGUF file.

    A number with an offset may differ by 2^-20 of the largest of its row, if the kind holds several
    formats.
    """
    return set(kind.split("+")) <= set(READERS)


def base_codes(weights: WeightSource, name: str, kind: str) -> Codes:
    """Codes of the frozen weight `name`: the file's own if `kind` names its format, else made from
    float32. Raises OptionError for an unknown kind, and ModelError.
    """
    if kind in FLOAT_KINDS:
        return encode(kind, weights.float32(name))
    kinds = kind.split("+")
    if unknown := [k for k in kinds if k not in LAYOUTS]:
        known = ", ".join([*FLOAT_KINDS, *READERS])
        raise OptionError(f"unknown base format {unknown[0]}", f"one of: {known}")
    layout = joined([LAYOUTS[k] for k in kinds])
    own = kind if len(kinds) == 1 else weights.code_kind(name)
    if own in READERS:
        codes = stored(blocks_of(weights.raw_blocks(name), own), kind, layout)
        return replace(codes, blocks=None) if kind in _OWN_OPS else codes
    made = encode("gse8", weights.float32(name))
    exponents = made.arrays["exponents"]
    scale = np.ones_like(exponents, np.int16), exponents
    blocks = Blocks(LAYOUTS["gse8"], made.arrays["codes"].astype(np.int16), scale)
    return replace(stored(blocks, kind, layout), lost=made.lost)
