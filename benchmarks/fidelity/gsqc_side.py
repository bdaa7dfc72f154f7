# SPDX-License-Identifier: Apache-2.0
"""The side of gsqc, and the start of the adapter that all sides share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gsqc.adapters.linears import SHORT_NAMES
from gsqc.adapters.lora import Lora
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import Bits, CompileOptions
from gsqc.data import Dataset
from gsqc.models import model_ops
from gsqc.numerics.ops.noise import uniform_q24
from gsqc.runtime.session import Session
from gsqc.targets.registry import NATIVE, resolve_target
from gsqc.training.learning_rate import LearningRate

MODEL = "smollm2-135m"
LORA = Lora(16, 32)
SEED = 1


def compile_bundle(folder: Path, bits: str, seq: int) -> Path:
    """SmolLM2-135M with its own 4-bit codes (8 bits: GSE-8), rank 16, alpha 32."""
    output, target, parsed = folder / f"{bits}.gsqc", resolve_target(NATIVE), Bits.parse(bits)
    base = "gguf" if parsed.w == 4 else "gse8"
    options = CompileOptions(
        output, target, parsed, base, adapter=LORA, sequence_length=seq, seed=SEED
    )
    compile_model(MODEL, options)
    return output


def initial_adapters(captured: Any) -> dict[str, torch.Tensor]:
    """The adapter's matrices as a bundle of seed 1 begins them, float32."""
    shapes = {}
    for node in captured.graph.nodes:
        if node.target is model_ops.linear and node.meta["block"] is not None:
            short = SHORT_NAMES[node.meta["module"].rsplit(".", 1)[-1]]
            for factor, parameter in LORA.parameters(*node.args[1].meta["shape"]).items():
                shapes[f"layers.{node.meta['block']}.{short}_{factor}"] = parameter
    values = {}
    for stream, (name, parameter) in enumerate(sorted(shapes.items())):
        shape, fan_in = parameter.shape, parameter.fan_in
        start = uniform_q24(SEED, stream, shape, fan_in) if fan_in else np.zeros(shape, np.int32)
        values[name] = torch.from_numpy(start / 2.0**24).float()
    return values


class GsqcSide:
    """A session of a bundle, opened anew for each run, with the interface of TorchSide."""

    def __init__(self, bundle: Path, initial: dict[str, torch.Tensor], threads: int) -> None:
        self.session = Session(bundle, threads=threads)
        for name, value in self.session.state().items():
            if name in initial:
                same = np.array_equal(value / 2.0**24, initial[name].numpy().ravel())
                assert same, f"{name} begins otherwise in the bundle"

    def train(self, data: Dataset, rates: LearningRate, order: int) -> list[float]:
        """The loss of each step."""
        batches = data.batches(1, order)
        steps = range(1, rates.steps + 1)
        return [self.session.step(next(batches), rates.at(step)).loss for step in steps]

    def evaluate(self, data: Dataset) -> float:
        """Mean loss per weighted token."""
        return self.session.evaluate(data.sequences).loss
