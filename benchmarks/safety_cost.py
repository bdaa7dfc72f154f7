# SPDX-License-Identifier: Apache-2.0
"""What the checks for changed bundles and taken runs cost a run of SmolLM2-135M.

    python benchmarks/safety_cost.py --seq 128 --rounds 9

Steps with and without the checks take turns in one process, on the same session. `ratio` is the
median over the rounds of a step with the checks to one without, and `cpu_ratio` that of the time of
all processors, which other programs disturb less. `share` is what the checks take by themselves,
and the lock's, of a step. What stands before a save is measured by itself too.
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


def times_of(work: Callable[[], object], count: int) -> tuple[float, float]:
    """The mean time of a call, and that of all processors."""
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        work()
    return (time.perf_counter() - start) / count, (time.process_time() - cpu) / count


def seconds(work: Callable[[], object], count: int) -> float:
    """The mean time of a call."""
    return times_of(work, count)[0]


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
        sides: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
        session.step(batch, Fraction(1, 1000))
        for number in range(2 * args.rounds):
            side = "with" if number % 2 else "without"
            if side == "without":
                session.bundle.require_unchanged = lambda **_: None  # type: ignore[method-assign]
            else:
                session.bundle.require_unchanged = check  # type: ignore[method-assign]
            sides[side].append(times_of(lambda: session.step(batch, Fraction(1, 1000)), STEPS))
        pairs = list(zip(sides["with"], sides["without"], strict=True))
        ratio, cpu_ratio = (statistics.median(a[k] / b[k] for a, b in pairs) for k in (0, 1))
        step = statistics.median(wall for wall, _ in sides["with"])
        each = [seconds(call, 1000) for call in (check, lock.require)]
        report = {
            "sequence_length": args.seq,
            "step_ms": 1e3 * step,
            "ratio": ratio,
            "cpu_ratio": cpu_ratio,
            "check_us": 1e6 * each[0],
            "lock_us": 1e6 * each[1],
            "share": sum(each) / step,
            "hashed_check_ms": 1e3 * seconds(lambda: check(hashed=True), 5),
        }
        lock.release()
    print(json.dumps({name: round(value, 6) for name, value in report.items()}))


if __name__ == "__main__":
    main()
