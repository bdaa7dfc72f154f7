# SPDX-License-Identifier: Apache-2.0
"""What a bundle's manifest says of the model, the options and the step."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from gsqc.compiler.options import CompileOptions
from gsqc.models.capture import CapturedModel
from gsqc.passes.step import Step

Array = npt.NDArray[Any]


def _operator_counts(step: Step) -> dict[str, int]:
    total: dict[str, int] = {}
    for plan in step.plan.kernels.values():
        for operator, count in plan.operators.items():
            total[operator] = total.get(operator, 0) + count
    return dict(sorted(total.items()))


def build_manifest(
    captured: CapturedModel,
    step: Step,
    code: dict[str, Any],
    options: CompileOptions,
    base: dict[str, Array],
    kinds: dict[str, str],
) -> dict[str, Any]:
    """All but the files. `code` is what the target says, `kinds` the codes of each weight by its
    name.
    """
    config = captured.config
    return {
        **code,
        "model": {
            **captured.metadata,
            "architecture": config.architecture,
            "layers": config.layers,
            "hidden": config.hidden,
            "heads": config.heads,
            "key_value_heads": config.kv_heads,
            "vocabulary": config.vocabulary,
        },
        "bits": str(options.bits),
        "base": options.base,
        "base_kinds": kinds,
        "adapter": options.adapter.to_json(),
        "optimizer": options.optimizer,
        "sequence_length": options.sequence_length,
        "batch": options.batch,
        "seed": options.seed,
        "recompute": step.options.recompute,
        "weights": options.weights,
        "operators": _operator_counts(step),
        "float_operators": sum(t.dtype.startswith("float") for t in _all_operators(step)),
        "planned_peak_bytes": step.plan.peak_bytes
        + (step.plan.buffer_bytes("gradient") if options.batch > 1 else 0),
        "weights_bytes": sum(a.nbytes for a in base.values()),
        "plan": step.plan.to_json(),
    }


def _all_operators(step: Step) -> list[Any]:
    return [operator for trace in step.kernels.traces.values() for operator in trace.nodes]
