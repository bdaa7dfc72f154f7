# SPDX-License-Identifier: Apache-2.0
"""What is called in place of a module of a model while it is exported."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from gsqc.models.capture import stand_ins
from gsqc.models.capture.recognise import (
    Tables,
    experts_gate,
    gelu_form,
    known_norm,
    rope_tables,
    xielu_beta,
)
from gsqc.models.capture.stand_ins import NamedTables


def stand_in(
    module: nn.Module,
    tokens: int,
    constants: dict[str, npt.NDArray[np.float64]],
    layouts: set[str],
) -> Callable[..., Any] | None:
    """What is called in place of a module that is known, or None. Adds tables and their layouts."""
    if (norm := known_norm(module)) is not None:
        return functools.partial(
            stand_ins.layer_norm if norm.centres else stand_ins.rms_norm, module, norm
        )
    if (form := gelu_form(module)) is not None:
        return functools.partial(nn.functional.gelu, approximate=form)
    if (gate := experts_gate(module)) is not None:
        return functools.partial(stand_ins.experts, module, gate)
    if (beta := xielu_beta(module)) is not None:
        return functools.partial(stand_ins.xielu, module, beta)
    if tables := rope_tables(module, tokens):
        layouts |= {pair.layout for pair in tables.values()}
        named = {kind: _add_tables(constants, pair) for kind, pair in tables.items()}
        return functools.partial(stand_ins.rope_table, named)
    return None


def _add_tables(constants: dict[str, npt.NDArray[np.float64]], tables: Tables) -> NamedTables:
    """Add the tables to the constants under new names, or find them there."""
    for number in range(len(constants) + 1):
        suffix = f"_{number}" if number else ""
        names = f"rope_cos{suffix}", f"rope_sin{suffix}"
        pair = tables.cos, tables.sin
        known = [constants.setdefault(n, t) for n, t in zip(names, pair, strict=True)]
        if all(map(np.array_equal, known, pair)):
            break
    return NamedTables(names, 2 * tables.cos.shape[1])
