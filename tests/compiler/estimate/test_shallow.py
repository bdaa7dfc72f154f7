# SPDX-License-Identifier: Apache-2.0
"""The plan from two layers is the plan of the whole model, and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.architectures.build import build
from benchmarks.architectures.families import BY_NAME
from gsqc.adapters.lora import Lora
from gsqc.bundle.plan import Plan
from gsqc.compiler.calibration import is_balanced
from gsqc.compiler.compile import step_options
from gsqc.compiler.estimate.shallow import capture_shallow, open_shallow
from gsqc.compiler.frozen_weights import FrozenWeights
from gsqc.compiler.options import Bits, CompileOptions
from gsqc.compiler.pipeline import run_pipeline
from gsqc.errors import GsqcError
from gsqc.models import LoadedModel
from gsqc.models.capture import capture_model
from gsqc.passes.step import Step

OPTIONS = CompileOptions(Path("x.gsqc"), adapter=Lora(4, 8), sequence_length=16)


Opened = tuple[LoadedModel, list[str]]


@pytest.fixture(scope="module")
def opened(deep_model: Path) -> Opened:
    return open_shallow(str(deep_model))


def whole_plan(model: Path, options: CompileOptions) -> Plan:
    """As compile_model makes it."""
    captured = capture_model(str(model), options.sequence_length)
    weights = FrozenWeights(captured.weights, options.base)
    asked = step_options(options, balance=is_balanced(options, captured.tokenizer_json))
    return run_pipeline(Step(captured.graph, weights.codes_of, asked)).plan


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "small", "recompute": "none", "optimizer": "sgd", "base": "gse4"},
        {"sequence_length": 40, "batch": 3, "adapter": Lora(2, 4, ("q", "v"))},
        {"bits": Bits(4, 5, 5, 8)},
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


@pytest.mark.parametrize("family", ["smollm3", "exaone4"])
def test_layers_that_differ_in_their_settings_alone(tmp_path: Path, family: str) -> None:
    build(BY_NAME[family]).save_pretrained(tmp_path)
    shallow = capture_shallow(*open_shallow(str(tmp_path)), OPTIONS.sequence_length).plan(OPTIONS)
    assert len(shallow.parts.kinds) == 2
    assert shallow.plan.to_json() == whole_plan(tmp_path, OPTIONS).to_json()
