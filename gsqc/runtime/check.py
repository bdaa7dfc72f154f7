# SPDX-License-Identifier: Apache-2.0
"""check: run the same steps on several targets and compare the digests of the state, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import OptionError
from gsqc.runtime.data import WEIGHT_ONE, TokenSequence
from gsqc.runtime.noise import random_bits
from gsqc.runtime.session import Session

Array = npt.NDArray[Any]
CHECK_RATE = Fraction(1, 1000)


@dataclass
class CheckResult:
    """Digests by target and step; the first difference, if there is one.

    `equal` is None for one target alone: there is nothing that it equals.
    """

    equal: bool | None
    targets: dict[str, list[str]] = field(default_factory=dict)
    first_difference: dict[str, Any] | None = None


def random_sequences(session: Session, step: int, seed: int) -> list[TokenSequence]:
    """The batch of a step: random tokens, every eighth of weight 0."""
    length, vocabulary = session.sequence_length, session.bundle.manifest["model"]["vocabulary"]
    sequences = []
    for k in range(session.batch):
        bits = random_bits(seed, step * session.batch + k, np.arange(length + 1))
        tokens = (bits % vocabulary).astype(np.int32)
        weights = np.where(np.arange(length) % 8 == 7, 0, WEIGHT_ONE).astype(np.int32)
        sequences.append(TokenSequence(tokens[:-1].copy(), tokens[1:].copy(), weights))
    return sequences


def _first_difference(step: int, states: dict[str, dict[str, Array]]) -> dict[str, Any]:
    """The first tensor and index at which two targets differ after a step."""
    names = list(states)
    golden = states[names[0]]
    for tensor in golden:
        for other in names[1:]:
            different = np.flatnonzero(golden[tensor] != states[other][tensor])
            if different.size:
                index = int(different[0])
                values = {name: int(states[name][tensor][index]) for name in (names[0], other)}
                return {"step": step, "tensor": tensor, "index": index, "values": values}
    raise AssertionError("digests differ, so a tensor does")


def run_check(
    bundle: Path,
    targets: list[str],
    steps: int,
    *,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> CheckResult:
    """Run `steps` steps on random batches on each target, side by side, and stop at the first difference.

    Raises TargetError for a target that cannot run here: it is never counted as equal.
    """
    if not targets or not all(targets) or len(set(targets)) < len(targets) or steps < 1:
        raise OptionError("check needs different targets and a step", "as in --on numpy,x86-64 --steps 3")
    sessions = {}
    for target in targets:
        progress(f"preparing {target}")
        sessions[target] = Session(bundle, target=target, threads=threads)
    result = CheckResult(True if len(sessions) > 1 else None, {target: [] for target in sessions})
    for step in range(1, steps + 1):
        for target, session in sessions.items():
            progress(f"step {step} on {target}")
            batch = random_sequences(session, step, seed)
            result.targets[target].append(session.step(batch, CHECK_RATE).digest)
        if len({digests[-1] for digests in result.targets.values()}) > 1:
            result.equal = False
            result.first_difference = _first_difference(step, {t: s.state() for t, s in sessions.items()})
            break
    return result
