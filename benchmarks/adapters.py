# SPDX-License-Identifier: Apache-2.0
"""Every kind of adapter on the same model, data and order: held-out loss, sizes, time and memory.

    python -m benchmarks.adapters --model smollm2-135m --steps 60

Each is compiled, trained by `gsqc train` in a process of its own, and exported to PEFT where PEFT
has it. Prints a line of JSON for each.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gsqc
from gsqc.bundle.bundle import Bundle

EXAMPLES = Path(__file__).parents[1] / "examples"
TRAIN = EXAMPLES / "devils-dictionary-train.jsonl"
HELD_OUT = EXAMPLES / "devils-dictionary-heldout.jsonl"
ADAPTERS = (
    *("lora:rank=16,alpha=32", "lora:rank=16,alpha=32,train=b", "peqa", "road"),
    *("paca:rank=16,alpha=32", "miss:rank=64", "loldu:rank=64,alpha=64"),
)
RATE = {"peqa": "4e-3", "road": "4e-3", "loldu": "4e-2"}
"""Learning rates of kinds whose few numbers have to move further. The others have gsqc's own."""


def _train(command: list[Any]) -> tuple[list[dict[str, Any]], int]:
    """The JSON lines that a command prints, and the largest memory of its process, in bytes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    done = subprocess.run(
        ["/usr/bin/env", *map(str, command)], check=True, capture_output=True, text=True
    )
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert largest >= before
    return [json.loads(line) for line in done.stdout.splitlines()], largest << 10


def measured(model: str, adapter: str, steps: int, folder: Path) -> Iterator[tuple[str, Any]]:
    """What is measured of one adapter, by name."""
    kind = adapter.partition(":")[0]
    bundle, run, peft = folder / "b.gsqc", folder / "run", folder / "peft"
    gsqc.compile(model, bundle, adapter=adapter, seed=1)
    manifest = Bundle.open(bundle).manifest
    yield "trained", sum(m.rows * m.columns for m in manifest.adapter.matrices.values())
    yield "state_bytes", manifest.files["state.safetensors"].bytes
    yield "planned_peak_bytes", manifest.planned_peak_bytes
    command = [sys.executable, "-m", "gsqc", "train", bundle, "--data", TRAIN, "--run", run]
    command += ["--steps", steps, "--json", "--lr", RATE.get(kind, "1e-3")]
    before = gsqc.evaluate(bundle, HELD_OUT)
    lines, _ = _train(command)
    after = gsqc.evaluate(bundle, HELD_OUT, run=run)
    yield "before", round(float(before.loss), 4)
    yield "after", round(float(after.loss), 4)
    seconds = sorted(line["seconds"] for line in lines if "seconds" in line and "step" in line)
    yield "step_seconds", seconds[len(seconds) // 2] if seconds else None
    yield "digest", next((line["digest"] for line in reversed(lines) if "digest" in line), None)
    export = [sys.executable, "-m", "gsqc", "export", bundle, "--run", run, "--peft", peft]
    done = subprocess.run(list(map(str, export)), capture_output=True, text=True)
    weights = peft / "adapter_model.safetensors"
    yield "peft_bytes", weights.stat().st_size if done.returncode == 0 else None


def main() -> None:
    """Measure each adapter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--adapter", action="append")
    chosen = parser.parse_args()
    for adapter in chosen.adapter or ADAPTERS:
        with tempfile.TemporaryDirectory() as folder:
            found = dict(measured(chosen.model, adapter, chosen.steps, Path(folder)))
            print(json.dumps({"adapter": adapter, "steps": chosen.steps, **found}), flush=True)


if __name__ == "__main__":
    main()
