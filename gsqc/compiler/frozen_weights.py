# SPDX-License-Identifier: Apache-2.0
"""The frozen weights of a bundle: codes of the blocks' weights, tables, the final norm, constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.compiler.options import CompileOptions
from gsqc.models.capture import CapturedModel
from gsqc.models.codes import Codes, base_codes, norm_codes
from gsqc.numerics.formats import Gse, Row
from gsqc.numerics.ops.quantise import quantise
from gsqc.numerics.ops.registry import OPS, evaluate
from gsqc.numerics.ops.rope import TABLE_FRACTION_BITS
from gsqc.passes.outline_blocks import Outline

Array = npt.NDArray[Any]


def _table_arrays(name: str, weight: Array) -> dict[str, Array]:
    """An embedding table [V, n] as GSE-8 along n, by our own quantise: one meaning."""
    fraction, exponent = np.frexp(np.abs(weight).max(axis=1, keepdims=True).astype(np.float64))
    exponent = np.where(fraction > 0, exponent - 29, 0).astype(np.int32)
    m = np.rint(np.ldexp(weight.astype(np.float64), -exponent)).astype(np.int32)
    parts: list[Gse] = [
        evaluate(quantise, [Row(m[k : k + 4096], exponent[k : k + 4096], 30)], {"bits": 8})
        for k in range(0, len(m), 4096)
    ]
    return {
        f"{name}.{field}": np.concatenate([getattr(p, field) for p in parts])
        for field in ("m", "d", "e")
    }


def _common_kind(kinds: list[str], fallback: str) -> str:
    """Layers share code, so a weight has one kind of codes in all of them."""
    return kinds[0] if len(set(kinds)) == 1 else fallback


def quantise_weights(
    captured: CapturedModel, outline: Outline, options: CompileOptions
) -> tuple[dict[str, Array], dict[str, str], str, dict[str, Codes]]:
    """All of base.safetensors; the names of the tables and the final norm; codes of the first
    layer's weights.
    """
    base: dict[str, Array] = {}
    first: dict[str, Codes] = {}
    for position, node in enumerate(outline.block_parameters):
        names = [layer[position] for layer in outline.parameters]
        is_norm = len(node.meta["shape"]) == 1
        kind = "row16" if is_norm else base_kind(captured, names, options)
        for name in names:
            codes = (
                norm_codes(captured.weights.float32(name))
                if is_norm
                else base_codes(captured.weights, name, kind)
            )
            first.setdefault(node.meta["parameter"], codes)
            base |= {f"{name}.{key}": array for key, array in codes.arrays.items()}
    tables, norm = names_outside_blocks(outline)
    for embedding in dict.fromkeys(tables.values()):
        base |= _table_arrays(embedding, captured.weights.float32(embedding))
    final_norm = norm_codes(captured.weights.float32(norm))
    row = evaluate(
        OPS[final_norm.dequantise_op], list(final_norm.arrays.values()), final_norm.attributes
    )
    base |= {f"{norm}.m": row.m, f"{norm}.e": row.e}
    for name, table in captured.constants.items():
        base[name] = np.rint(table * 2.0**TABLE_FRACTION_BITS).astype(np.int32)[None]
    return base, tables, norm, first


def names_outside_blocks(outline: Outline) -> tuple[dict[str, str], str]:
    """The parameters of embedding and head, and of the final norm."""
    embed = next(
        n.meta["parameter"] for n in outline.embed[0].all_input_nodes if "parameter" in n.meta
    )
    norm, head = (
        next(n.meta["parameter"] for n in node.all_input_nodes if "parameter" in n.meta)
        for node in outline.head[-2:]
    )
    return {"embed": embed, "head": head}, norm


def base_kind(captured: CapturedModel, names: list[str], options: CompileOptions) -> str:
    """The codes that a weight of the block gets, whose name in each layer is given."""
    if options.base != "gguf":
        return options.base
    return _common_kind([captured.weights.code_kind(name) for name in names], "nf4")
