# SPDX-License-Identifier: Apache-2.0
"""What the checks for changed bundles and taken runs cost a run of SmolLM2-135M.

    python benchmarks/safety_cost.py --seq 128 --rounds 9

Steps with and without the checks take turns in one process, on the same session. What stands before
a save is measured by itself. `ratio` is the median over the rounds of a step with the checks to one
without.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from gsqc.adapters.lora import Lora
from gsqc.check.sequences import random_sequences
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.runtime.session import Session
from gsqc.training.lock import RunLock

STEPS = 4
"""Steps of a side in a round."""


def seconds(work: Callable[[], object], times: int) -> float:
    """The mean time of a call."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def main() -> None:
    """Compile, measure, and print a JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gsqc"
        options = CompileOptions(path, base="gguf", adapter=Lora(16, 32), sequence_length=args.seq)
        compile_model("smollm2-135m", options)
        lock = RunLock(Path(folder) / "run")
        session = Session(path)
        batch = random_sequences(session.bundle, 1, 0)
        check = session.bundle.require_unchanged
        sides: dict[str, list[float]] = {"with": [], "without": []}
        session.step(batch, Fraction(1, 1000))
        for number in range(2 * args.rounds):
            side = "with" if number % 2 else "without"
            if side == "without":
                session.bundle.require_unchanged = lambda **_: None  # type: ignore[method-assign]
            else:
                session.bundle.require_unchanged = check  # type: ignore[method-assign]
            sides[side].append(seconds(lambda: session.step(batch, Fraction(1, 1000)), STEPS))
        ratios = [a / b for a, b in zip(sides["with"], sides["without"], strict=True)]
        report = {
            "sequence_length": args.seq,
            "step_ms": 1e3 * statistics.median(sides["with"]),
            "ratio": statistics.median(ratios),
            "check_us": 1e6 * seconds(check, 1000),
            "lock_us": 1e6 * seconds(lock.require, 1000),
            "hashed_check_ms": 1e3 * seconds(lambda: check(hashed=True), 5),
        }
        lock.release()
    print(json.dumps({name: round(value, 4) for name, value in report.items()}))


if __name__ == "__main__":
    main()
