# SPDX-License-Identifier: Apache-2.0
"""The plan from two layers is the plan of the whole model, and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AlbertConfig, AlbertForSequenceClassification

from benchmarks.architectures.build import build
from benchmarks.architectures.families import BY_NAME
from gsqc.adapters.lora import Lora
from gsqc.bundle.plan import Plan
from gsqc.compiler.calibration import is_balanced
from gsqc.compiler.compile import open_model, step_options
from gsqc.compiler.estimate.shallow import capture_shallow, open_shallow
from gsqc.compiler.frozen_weights import FrozenWeights
from gsqc.compiler.options import Bits, CompileOptions
from gsqc.compiler.pipeline import run_pipeline
from gsqc.errors import GsqcError, ModelError
from gsqc.models import LoadedModel
from gsqc.models.capture import capture_loaded
from gsqc.numerics.optim.sgd import Sgd
from gsqc.passes.step import Step
from tests.encoders import ENCODERS, build_encoder

OPTIONS = CompileOptions(Path("x.gsqc"), adapter=Lora(4, 8), sequence_length=16)


Opened = tuple[LoadedModel, list[str]]


@pytest.fixture(scope="module")
def opened(deep_model: Path) -> Opened:
    return open_shallow(str(deep_model), OPTIONS)


def whole_plan(model: Path, options: CompileOptions) -> Plan:
    """As compile_model makes it."""
    captured = capture_loaded(open_model(str(model), options), options.sequence_length)
    weights = FrozenWeights(captured.weights, options.base)
    asked = step_options(options, balance=is_balanced(options, captured.tokenizer_json))
    return run_pipeline(Step(captured.graph, weights.codes_of, asked)).plan


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "small", "recompute": "none", "optimizer": Sgd(), "base": "gse4"},
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
        open_shallow(str(tmp_path / "absent"), OPTIONS)


@pytest.mark.parametrize("family", ["smollm3", "exaone4"])
def test_layers_that_differ_in_their_settings_alone(tmp_path: Path, family: str) -> None:
    build(BY_NAME[family]).save_pretrained(tmp_path)
    shallow = capture_shallow(*open_shallow(str(tmp_path), OPTIONS), 16).plan(OPTIONS)
    assert len(shallow.parts.kinds) == 2
    assert shallow.plan.to_json() == whole_plan(tmp_path, OPTIONS).to_json()


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_its_layers_and_a_head(tmp_path: Path, name: str) -> None:
    build_encoder(name, layers=4).save_pretrained(tmp_path)
    options = replace(OPTIONS, task="classify", labels="a,b,c")
    opened = open_shallow(str(tmp_path), options)
    shallow = capture_shallow(*opened, 16)
    # ModernBERT's layers are not alike: all of them are captured.
    layers = {n.meta.get("block") for n in shallow.captured.graph.nodes} - {None}
    assert len(layers) == (5 if name.startswith("modernbert") else 3)
    step = shallow.plan(options)
    assert step.parts.layers == 5
    assert step.plan.to_json() == whole_plan(tmp_path, options).to_json()


def test_a_model_whose_layers_are_no_list(tmp_path: Path) -> None:
    """ALBERT has one group of parameters for all of its layers."""
    config = AlbertConfig(vocab_size=320, embedding_size=64, hidden_size=64, num_hidden_layers=3)
    AlbertForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="layers are one list"):
        open_shallow(str(tmp_path), replace(OPTIONS, task="classify", labels="2"))
