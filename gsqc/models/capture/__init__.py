# SPDX-License-Identifier: Apache-2.0
"""Capture: from a model to a graph of `gsqc.models.model_ops` calls, its weights by name and its
rope tables.

export.py     torch.export, with norms, rotary embedding and attention as single operators
convert.py    the exported graph becomes model_ops by `rules`; what has no rule is reported with the
              user's source lines
float_run.py  runs the graph in float: the reference
programs/     .onnx and .pt2 files, whose graphs take the place of the export
"""

from __future__ import annotations

from typing import Any

import torch.fx

from gsqc.errors import ModelError, OptionError
from gsqc.models import LoadedModel, load_model, model_ops
from gsqc.models.capture.captured import CapturedModel, ModelConfig
from gsqc.models.capture.convert import convert_graph
from gsqc.models.capture.export import export_model
from gsqc.models.capture.float_run import FloatRun, float_parameters, run_float
from gsqc.models.capture.problems import MISSING
from gsqc.models.capture.programs.capture import capture_program
from gsqc.models.layouts import LinearWeights
from gsqc.models.program import ProgramModule

__all__ = [
    "CapturedModel",
    "FloatRun",
    "ModelConfig",
    "capture_loaded",
    "capture_model",
    "float_parameters",
    "run_float",
]


def capture_model(model: Any, sequence_length: int) -> CapturedModel:
    """Capture `model` for sequences of `sequence_length` tokens; the model itself is left as it
    was.

    model  a Hugging Face module, a directory with config.json and safetensors, a .gguf, .onnx or
           .pt2 file, or a known name

    Raises ModelError, UnsupportedOperatorError (all operators at once), OptionError (fewer than 2
    tokens).
    """
    return capture_loaded(load_model(model), sequence_length)


def capture_loaded(loaded: LoadedModel, sequence_length: int) -> CapturedModel:
    """As `capture_model`, for a model that was opened already."""
    if sequence_length < 2:
        raise OptionError(f"sequence length {sequence_length}", "a sequence has at least 2 tokens")
    if isinstance(loaded.module, ProgramModule):
        return capture_program(loaded, sequence_length)
    exported = export_model(loaded.module, sequence_length)
    graph = convert_graph(exported, sequence_length)
    layouts = {n.meta["parameter"]: n.meta["layout"] for n in graph.nodes if "layout" in n.meta}
    _require_direction(graph, classifies=exported.classifies)
    return CapturedModel(
        graph=graph,
        config=ModelConfig.of(loaded.module, graph),
        constants=exported.constants,
        weights=LinearWeights(loaded.weights, layouts) if layouts else loaded.weights,
        tokenizer_json=loaded.tokenizer_json,
        metadata=loaded.metadata,
        labels=loaded.labels,
    )


def _require_direction(graph: torch.fx.Graph, *, classifies: bool) -> None:
    """ModelError unless a language model attends to earlier tokens alone, and an encoder to all."""
    found = {n.kwargs.get("causal", True) for n in graph.nodes if n.target is model_ops.attention}
    if not classifies and False in found:
        raise ModelError(
            f"{MISSING}: attention that is not causal",
            "an encoder compiles as a classifier of texts, with --task classify",
        )
    if classifies and found != {False}:
        raise ModelError(
            "the classifier's attention is causal, so its first token sees no other",
            "--task classify takes encoders: BERT, RoBERTa, DistilBERT and their relatives",
        )
