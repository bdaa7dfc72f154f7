# SPDX-License-Identifier: Apache-2.0
"""How a session takes a step: by gradients, or by forward passes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.image_file import IMAGE_ROWS
from gsqc.bundle.plan import Plan
from gsqc.data import TokenSequence
from gsqc.numerics.optim.optimizer import STEP_NUMBER, Optimizer
from gsqc.numerics.optim.zo import DECAY, LARGEST_STEP, MOVES, QUERY, STEP, TIMES, Zo
from gsqc.runtime.executor import Executor
from gsqc.runtime.requirements import LOSS, NORM_SUMS, SEQUENCE_INPUTS, require_gradients
from gsqc.runtime.results import mean_loss, mean_norm

Array = npt.NDArray[Any]
_THERE, _ACROSS = 1, -2
"""What a weight moves by in multiples of ε: to p + ε·z, and from there to p - ε·z."""


@dataclass(frozen=True)
class Batch:
    """What a step is given: its number from 1, its sequences, their weight (Q14), and the numbers
    that `Optimizer.step_inputs` gives.
    """

    step: int
    sequences: Sequence[TokenSequence]
    weight: int
    inputs: Mapping[str, int]

    @property
    def clips(self) -> bool:
        """Whether the norm of the gradient is limited."""
        return self.inputs["clip_m"] != 0


@dataclass(frozen=True)
class Outcome:
    """What a step gave: the mean loss, and what there is of a norm and of differences of losses."""

    loss: float
    norm: float | None = None
    differences: tuple[int, ...] = ()


def run_sequence(executor: Executor, schedule: str, sequence: TokenSequence) -> tuple[int, int]:
    """Run a schedule on one sequence: its weighted loss (Q16 · Q14) and its weight (Q14)."""
    for name in SEQUENCE_INPUTS:
        np.copyto(executor.tensors[name], getattr(sequence, name), casting="no")
    if sequence.image_rows is not None:
        _place_images(executor, *sequence.image_rows)
    executor.run(schedule)
    weights = sequence.weights.astype(np.int64)
    loss = int((executor.tensors[LOSS].astype(np.int64) * weights).sum())
    return loss, int(weights.sum())


def _place_images(executor: Executor, codes: Array, exponents: Array) -> None:
    """Write the rows of a sequence's images. What is behind them is not read."""
    executor.tensors[f"{IMAGE_ROWS}.m"][: codes.size] = codes.reshape(-1)
    executor.tensors[f"{IMAGE_ROWS}.e"][: exponents.size] = exponents


def take_step(executor: Executor, plan: Plan, optimizer: Optimizer, batch: Batch) -> Outcome:
    """Take a step by the optimizer's method. BundleError if memory is short."""
    if isinstance(optimizer, Zo):
        return _step_forward(executor, optimizer, batch)
    return _step_by_gradients(executor, plan, batch)


def _step_by_gradients(executor: Executor, plan: Plan, batch: Batch) -> Outcome:
    for name, value in batch.inputs.items():
        executor.tensors[name][0] = value
    if STEP_NUMBER in plan.buffers["input"]:
        executor.tensors[STEP_NUMBER][0] = batch.step & LARGEST_STEP
    if len(batch.sequences) == 1 and not batch.clips:
        loss, _ = run_sequence(executor, "train", batch.sequences[0])
        return Outcome(mean_loss(loss, batch.weight))
    require_gradients(plan)
    executor.clear_gradients()
    loss, norm = _total(executor, "gradient", batch.sequences), None
    if batch.clips:
        executor.run("clip")
        mantissa, exponent = (int(executor.tensors[name][0]) for name in NORM_SUMS)
        norm = mean_norm(mantissa, exponent, batch.weight)
    executor.run("update")
    return Outcome(mean_loss(loss, batch.weight), norm)


def _total(executor: Executor, schedule: str, sequences: Sequence[TokenSequence]) -> int:
    """The weighted loss of all sequences (Q16 · Q14)."""
    return sum(run_sequence(executor, schedule, sequence)[0] for sequence in sequences)


def _step_forward(executor: Executor, optimizer: Zo, batch: Batch) -> Outcome:
    """The loss at both ends of each query, and one update. The loss told is the mean of all."""
    losses = []
    executor.tensors[STEP][0] = batch.step & LARGEST_STEP
    for query in range(optimizer.queries):
        executor.tensors[QUERY][0] = query
        for times in (_THERE, _ACROSS):
            executor.tensors[TIMES][0] = times
            executor.run("perturb")
            losses.append(_total(executor, "evaluate", batch.sequences))
        executor.tensors[TIMES][0] = _THERE
        executor.run("perturb")
    differences = tuple(up - down for up, down in zip(losses[::2], losses[1::2], strict=True))
    move_weights(executor, optimizer, batch.step, batch.inputs, differences)
    mean = mean_loss(sum(losses), batch.weight * len(losses))
    return Outcome(mean, differences=differences)


def move_weights(
    executor: Executor,
    optimizer: Zo,
    step: int,
    inputs: Mapping[str, int],
    differences: Sequence[int],
) -> None:
    """Update the weights by the differences of the losses (Q16 · Q14) of step 1, 2, …

    It takes no data: a run's log is enough to make the state again.
    """
    executor.tensors[STEP][0] = step & LARGEST_STEP
    executor.tensors[MOVES][:] = optimizer.moves(inputs, differences)
    for name in DECAY:
        executor.tensors[name][0] = inputs[name]
    executor.run("update")
