# SPDX-License-Identifier: Apache-2.0
"""The options of a compilation from texts, as the command line and the Python API give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gsqc.bundle.base import FILE_CODES
from gsqc.compiler.options import FILE_BITS, WITH_CODES, Bits, CompileOptions
from gsqc.errors import OptionError
from gsqc.numerics import bases
from gsqc.option_texts import parse_options


def default_base(model: str, bits: Bits, known_models: Mapping[str, Any]) -> str:
    """The base format of a model when none is asked for: the file's own codes where it has some."""
    has_codes = model.lower().endswith(WITH_CODES) or model in known_models
    return FILE_CODES if has_codes and bits.w == FILE_BITS else bases.default_base(bits.w)


def parse_compile_options(
    model: str, *, known_models: Mapping[str, Any], base: str | None = None, **values: Any
) -> CompileOptions:
    """Options from the command line, where `bits` and `adapter` are texts. Without `base` it is
    that of the model. `values` are the other fields of CompileOptions. Raises one OptionError with
    every problem.
    """
    if base is None:
        try:
            bits = Bits.parse(str(values.get("bits", Bits(4, 8, 8))))
        except OptionError:  # parse_options names it, beside all others
            bits = Bits(4, 8, 8)
        base = default_base(model, bits, known_models)
    if isinstance(values.get("adapter"), str):  # one adapter, as the Python API gives it
        values["adapter"] = (values["adapter"],)
    return parse_options(CompileOptions, {"base": base, **values})
