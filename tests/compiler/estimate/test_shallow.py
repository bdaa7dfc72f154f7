# SPDX-License-Identifier: Apache-2.0
"""The plan from two layers is the plan of the whole model, and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gsqc.bundle.plan import Plan
from gsqc.compiler import compile as compiler
from gsqc.compiler.estimate.shallow import capture_shallow, open_shallow
from gsqc.compiler.options import AdapterOptions, CompileOptions
from gsqc.compiler.pipeline import Dump, build_functions, lower_step
from gsqc.errors import GsqcError
from gsqc.models import LoadedModel
from gsqc.models.capture import capture_model
from gsqc.passes.outline_blocks import outline_blocks

OPTIONS = CompileOptions(Path("x.gsqc"), adapter=AdapterOptions(4, 8), sequence_length=16)


Opened = tuple[LoadedModel, list[str]]


@pytest.fixture(scope="module")
def opened(deep_model: Path) -> Opened:
    return open_shallow(str(deep_model))


def whole_plan(model: Path, options: CompileOptions) -> Plan:
    """As compile_model makes it."""
    captured = capture_model(str(model), options.sequence_length)
    outline = outline_blocks(captured.graph)
    _, tables, norm, codes = compiler.quantise_weights(captured, outline, options)
    functions, adapters = build_functions(captured, outline, codes, options, Dump(None))
    return lower_step(functions, adapters, captured, outline, options, tables, norm).plan


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "small", "recompute": "none", "optimizer": "sgd", "base": "gse4"},
        {"sequence_length": 40, "batch": 3, "adapter": AdapterOptions(2, 4, ("q", "v"))},
    ],
)
def test_two_layers_give_the_whole_plan(
    deep_model: Path, opened: Opened, changes: dict[str, Any]
) -> None:
    """One opened model serves several lengths."""
    options = replace(OPTIONS, **changes)
    shallow = capture_shallow(*opened, options.sequence_length).plan(options).plan
    assert shallow.to_json() == whole_plan(deep_model, options).to_json()


def test_a_model_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(GsqcError, match="there is no model"):
        open_shallow(str(tmp_path / "absent"))
