# SPDX-License-Identifier: Apache-2.0
"""What a bundle's manifest says of the model, the options and the step."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from gsqc.adapters.linears import in_order
from gsqc.adapters.several import in_manifest
from gsqc.bundle.manifest import AdapterPart, Manifest, MatrixEntry, ModelPart
from gsqc.bundle.tensor_file import LateTensor
from gsqc.compiler.frozen_weights import FrozenWeights
from gsqc.compiler.options import CompileOptions
from gsqc.data.turn_ends import turn_ends
from gsqc.models.capture import CapturedModel
from gsqc.passes.step import Step

Array = npt.NDArray[Any]


def _operator_counts(step: Step) -> dict[str, int]:
    total: dict[str, int] = {}
    for plan in step.plan.kernels.values():
        for operator, count in plan.operators.items():
            total[operator] = total.get(operator, 0) + count
    return dict(sorted(total.items()))


def _text(value: Any) -> str | None:
    """What a model's files call something; None unless it is a text."""
    return value.replace("\0", "") if isinstance(value, str) else None


def _model(captured: CapturedModel, known_name: str | None) -> ModelPart:
    config, said = captured.config, captured.metadata
    return ModelPart(
        architecture=config.architecture,
        layers=config.layers,
        hidden=config.hidden,
        heads=config.heads,
        key_value_heads=config.kv_heads,
        vocabulary=config.vocabulary,
        known_name=known_name,
        **{key: _text(said.get(key)) for key in ("name", "license", "tokenizer")},
        **{key: said.get(key) for key in ("eos_token_id", "bos_token_id", "chat_template")},
        special_tokens=said.get("special_tokens"),
        end_token_ids=_ends(captured),
        labels=captured.labels,
    )


def _ends(captured: CapturedModel) -> list[Any] | None:
    """What ends generation: what the model's files say, and what ends a turn of its chats."""
    known = list(captured.metadata.get("end_token_ids") or [])
    if captured.tokenizer_json is not None:
        known += turn_ends(captured.tokenizer_json, captured.metadata)
    return list(dict.fromkeys(known)) or None


def _adapter(step: Step) -> AdapterPart:
    kind, settings = in_manifest(step.adapter_of)
    matrices = {name: MatrixEntry(*matrix.shape) for name, matrix in step.adapters.items()}
    linears = in_order(matrix.linear for matrix in step.adapters.values())
    return AdapterPart(kind, settings, linears, matrices)


def build_manifest(
    captured: CapturedModel,
    known_name: str | None,
    step: Step,
    code: dict[str, Any],
    options: CompileOptions,
    base: dict[str, Array | LateTensor],
    weights: FrozenWeights,
) -> Manifest:
    """The manifest. `code` holds the fields that the targets and the calibration know."""
    sums = step.plan.buffer_bytes("gradient") if options.batch > 1 else 0
    return Manifest(
        model=_model(captured, known_name),
        adapter=_adapter(step),
        bits=str(options.bits),
        base=options.base,
        base_kinds=weights.code_kinds(step.parts),
        base_losses=weights.losses,
        optimizer=options.optimizer.kind,
        optimizer_settings=options.optimizer.values(),
        sequence_length=options.sequence_length,
        batch=options.batch,
        seed=options.seed,
        weights=options.weights,
        operators=_operator_counts(step),
        planned_peak_bytes=step.plan.peak_bytes + sums,
        weights_bytes=sum(a.nbytes for a in base.values()),
        recompute=step.options.recompute,
        passes=tuple(map(str, options.passes)) or None,
        **code,
    )
