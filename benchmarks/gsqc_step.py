# SPDX-License-Identifier: Apache-2.0
"""gsqc's step under a stopwatch, for the benchmarks that compare it: its time, the shares of its
ops, and how near its matmuls come to the peak of the instruction that they are made of.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from gsqc.compiler.options import Bits

MODEL = "smollm2-135m"


def peak_rss_bytes() -> int:
    """The largest resident memory of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def timed(step: Callable[[], None], count: int) -> dict[str, float]:
    """Medians of wall and CPU seconds of a step, after one to warm up."""
    step()
    wall, cpu = [], []
    for _ in range(count):
        start, used = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return {
        "seconds": statistics.median(wall),
        "cpu_seconds": statistics.median(cpu),
        "peak_rss_bytes": peak_rss_bytes(),
    }


def run_python(
    command: list[str], what: str, folder: Path | None = None, **environment: str
) -> str:
    """Run a command in a folder and return what it prints. End with its last lines if it fails."""
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def gsqc_side(bundle: Path, steps: int, threads: int) -> dict[str, Any]:
    """gsqc's step, and the shares of its ops."""
    from gsqc.check.sequences import random_sequences
    from gsqc.runtime.session import Session

    session = Session(bundle, threads=threads)
    batch = random_sequences(session.bundle, 1, 0)
    result = timed(lambda: session.step(batch, Fraction(1, 1000)) and None, steps)
    return {**result, **op_times(session), "target": session.target}


def side_command(bundle: Path, steps: int, threads: int) -> list[str]:
    """A command that prints `gsqc_side` as JSON, for a process whose memory is the step's alone."""
    program = (
        "import json; from pathlib import Path; from gsqc_step import gsqc_side; "
        f"print(json.dumps(gsqc_side(Path({str(bundle)!r}), {steps}, {threads})))"
    )
    return [sys.executable, "-c", program]


def instruction_peak(target: str, bits: str, threads: int) -> float:
    """GMAC/s of the instruction that the target's linears are made of, on all threads at once."""
    # Not above: it brings TVM along, whose memory is none of the step's.
    from gsqc.targets.llvm.quad_dots import quads_in_int16

    widths = Bits.parse(bits)
    bytes_fit = quads_in_int16(widths.a, widths.base) > 0
    instruction = "vpdpbusd" if target == "x86-64-vnni" else "pmaddubsw" if bytes_fit else "pmaddwd"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "instruction_peak"
        source = Path(__file__).with_name("instruction_peak.c")
        subprocess.run(["cc", "-O2", "-march=native", str(source), "-o", str(program)], check=True)
        running = [
            subprocess.Popen([program], stdout=subprocess.PIPE, text=True) for _ in range(threads)
        ]
        outputs = [process.communicate()[0] for process in running]
    return sum(
        float(dict(line.split() for line in text.splitlines())[instruction]) for text in outputs
    )


def op_times(session: Any) -> dict[str, Any]:
    """Shares of each op in one step, and GMAC/s of each matmul shape.

    Each call runs three times, and the fastest run counts.
    """
    executor, plan = session.executor, session.plan
    parts = executor.bound("train")  # one sequence, updates included
    names = [name for part in parts for name in part.kernels]
    calls = [(part.program, k) for part in parts for k in range(len(part.kernels))]
    seconds = [float("inf")] * len(calls)
    for _ in range(3):
        for k, (program, number) in enumerate(calls):
            start = time.perf_counter()
            program.run_one(number)
            seconds[k] = min(seconds[k], time.perf_counter() - start)
    ops: dict[str, float] = {}
    matmuls: dict[str, list[float]] = {}
    for name, spent in zip(names, seconds, strict=True):
        op = plan.kernels[name].op if name in plan.kernels else name.removeprefix("@")
        ops[op] = ops.get(op, 0.0) + spent
        if op == "gse_matmul":
            x, w = (value[2][0][0] for value in plan.kernels[name].inputs)
            entry = matmuls.setdefault(
                f"{'x'.join(map(str, x))} by {'x'.join(map(str, w))}", [0.0, 0.0]
            )
            entry[0] += spent
            entry[1] += float(w[-2]) * x[0] * x[1] * (x[2] if len(x) == 3 else 1)
    total = sum(ops.values())
    shares = {op: spent / total for op, spent in sorted(ops.items(), key=lambda item: -item[1])}
    speeds = {shape: macs / spent / 1e9 for shape, (spent, macs) in matmuls.items()}
    main = sum(m for _, m in matmuls.values()) / sum(s for s, _ in matmuls.values()) / 1e9
    return {"op_shares": shares, "matmul_gmacs": speeds, "gmacs": main}
