# SPDX-License-Identifier: Apache-2.0
"""A step of this checkout against one of another checkout: what did a change of gsqc cost?

    git worktree add /tmp/old v0.1.0
    python benchmarks/two_versions.py /tmp/old --bits 4-8-8 --seq 256 --rounds 5

Both compile SmolLM2-135M themselves and run the same work (gsqc_step.py), in processes of their
own, in turn. The table has medians, ratios paired by round, and the seconds of each op.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from gsqc_step import MODEL, run_python, side_command

HERE = Path(__file__).resolve().parent.parent


def run_in(checkout: Path, command: list[str]) -> str:
    """Run this Python with the modules of a checkout; what it prints. End if it fails."""
    # Python looks in the working directory first.
    modules = f"{checkout}:{checkout / 'benchmarks'}"
    return run_python([sys.executable, *command], str(checkout), checkout, PYTHONPATH=modules)


def compiled(checkout: Path, folder: Path, args: argparse.Namespace) -> Path:
    """The bundle of a checkout."""
    bundle = folder / "model.gsqc"
    options = ["--target", args.target, "--bits", args.bits, "--seq", str(args.seq)]
    run_in(checkout, ["-m", "gsqc", "compile", MODEL, *options, "-o", str(bundle)])
    return bundle


def one_round(checkout: Path, bundle: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The step of a checkout under the stopwatch."""
    _, *command = side_command(bundle, args.steps, args.threads)
    result: dict[str, Any] = json.loads(run_in(checkout, command).splitlines()[-1])
    return result


def print_table(rounds: list[dict[str, dict[str, Any]]]) -> None:
    """Medians of old and new, and the median of the rounds' ratios."""
    for key in ("seconds", "cpu_seconds", "peak_rss_bytes"):
        old, new = (statistics.median(r[side][key] for r in rounds) for side in ("old", "new"))
        ratio = statistics.median(r["new"][key] / r["old"][key] for r in rounds)
        print(f"{key:16} {old:14.6g} {new:14.6g} {ratio:8.3f}")
    ops = {op for r in rounds for side in r.values() for op in side["op_shares"]}
    seconds = {
        op: [
            statistics.median(r[side]["op_shares"].get(op, 0) * r[side]["seconds"] for r in rounds)
            for side in ("old", "new")
        ]
        for op in ops
    }
    for op, (old, new) in sorted(seconds.items(), key=lambda item: -max(item[1])):
        if max(old, new) > 1e-3:
            print(f"{op:26} {old * 1e3:8.1f} ms {new * 1e3:8.1f} ms")


def main() -> None:
    """Compile both, run the rounds, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("old", type=Path, help="the other checkout")
    parser.add_argument("--bits", default="4-8-8")
    parser.add_argument("--target", default="native")
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if not (args.old / "benchmarks" / "gsqc_step.py").is_file():
        parser.error(f"{args.old} is no checkout of gsqc: make one with git worktree add")
    checkouts = {"old": args.old.resolve(), "new": HERE}
    with tempfile.TemporaryDirectory() as folder:
        bundles = {}
        for side, checkout in checkouts.items():
            (Path(folder) / side).mkdir()
            bundles[side] = compiled(checkout, Path(folder) / side, args)
        rounds = []
        for number in range(args.rounds):
            order = list(checkouts) if number % 2 else list(checkouts)[::-1]
            rounds.append({s: one_round(checkouts[s], bundles[s], args) for s in order})
            print(json.dumps(rounds[-1]), flush=True)
    print_table(rounds)


if __name__ == "__main__":
    main()
