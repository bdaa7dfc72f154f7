# SPDX-License-Identifier: Apache-2.0
"""Estimator: what the settings asked for need in memory, disk and time, and what others would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from gsqc.compiler.estimate.memory import MemoryNeeds, disk_bytes, memory_of
from gsqc.compiler.estimate.probe import Rates, probe, reference_rates, step_seconds
from gsqc.compiler.estimate.shallow import ShallowModel, capture_shallow, open_shallow
from gsqc.compiler.frozen_weights import FrozenWeights
from gsqc.compiler.options import RECOMPUTE, WEIGHTS, CompileOptions
from gsqc.errors import TargetError
from gsqc.models import LoadedModel

LEAST_SEQUENCE = 32
MIB = 1 << 20


@dataclass(frozen=True)
class Estimate:
    """What one choice of settings needs: memory in parts, bytes on the disk, seconds per step.

    trained     how many numbers the adapter trains
    base_kinds  how each weight of the blocks is stored, as in a bundle's manifest
    calibrated  columns of activations are shifted by what a text shows
    """

    options: CompileOptions
    trained: int
    base_kinds: dict[str, str]
    memory: MemoryNeeds
    disk: dict[str, int]
    seconds: float
    measured: bool
    calibrated: bool

    def fits(self, memory_mib: int) -> bool:
        """Whether the peak is within a limit."""
        return self.memory.peak <= memory_mib * MIB


class Estimator:
    """Estimates for one model. Raises ModelError, UnsupportedOperatorError, TargetError."""

    def __init__(self, model: str, options: CompileOptions) -> None:
        """Open the model for the task of `options`."""
        self.loaded: LoadedModel
        self.loaded, self.names = open_shallow(model, options)
        self.rates: Rates | None = None
        self.no_probe = ""
        self._shallow: dict[int, ShallowModel] = {}
        self._made: dict[CompileOptions, Estimate] = {}

    def estimate(self, options: CompileOptions, *, measure: bool) -> Estimate:
        """The needs of these options. The first call measures kernels, if `measure` is set and the
        machine can.
        """
        if options not in self._made:
            self._made[options] = self._estimate(options, measure)
        return self._made[options]

    def _estimate(self, options: CompileOptions, measure: bool) -> Estimate:
        length = options.sequence_length
        if length not in self._shallow:
            self._shallow[length] = capture_shallow(self.loaded, self.names, length)
        model = self._shallow[length]
        step = model.plan(options)
        if self.rates is None:
            self.rates = reference_rates()
            if measure:
                try:
                    self.rates = probe(step, options.batch, options.target)
                except TargetError as error:
                    self.no_probe = str(error)
        tokenizer = len((self.loaded.tokenizer_json or "").encode())
        return Estimate(
            options,
            sum(prod(matrix.shape) for matrix in step.adapters.values()),
            FrozenWeights(model.captured.weights, options.base).code_kinds(step.parts),
            memory_of(step.plan, model.captured.config.vocabulary, options.batch),
            disk_bytes(step.plan, tokenizer),
            step_seconds(step, options.batch, self.rates),
            self.rates.measured,
            step.options.balance,
        )


def other_settings(options: CompileOptions) -> Iterator[CompileOptions]:
    """The same training with other memory, fastest first: the bits do not change."""
    for weights in reversed(WEIGHTS):
        for recompute in RECOMPUTE:
            yield replace(options, weights=weights, recompute=recompute)


def shorter_settings(options: CompileOptions) -> Iterator[CompileOptions]:
    """Settings that need the least memory, with a step of one sequence and then shorter ones."""
    least = replace(options, weights="small", recompute="blocks")
    if options.batch > 1:
        yield replace(least, batch=1)
    length = options.sequence_length // 2
    while length >= LEAST_SEQUENCE:
        yield replace(least, batch=1, sequence_length=length)
        length //= 2
