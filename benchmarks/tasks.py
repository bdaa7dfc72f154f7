# SPDX-License-Identifier: Apache-2.0
"""Accuracy on tasks of lm-evaluation-harness, item by item: a bundle against transformers float32
on the same de-quantised weights.

    python benchmarks/tasks.py BUNDLE --model smollm2-135m --tasks local_piqa,local_arc_easy \\
        --include-path examples/lm-eval --limit 100

Both sides run in this process on one thread, one after the other. CPU seconds include opening the
task. Nothing is cut for the float model. "same choice" counts the items whose likeliest choice is
the same.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gsqc.cli.main import main as run_command
from gsqc.harness.evaluate import evaluate_tasks, load_tasks
from gsqc.harness.options import HarnessOptions
from gsqc.runtime.session import Session

FLOAT_BATCH = 16


def timed(run: Callable[[], Any]) -> dict[str, Any]:
    """The harness's raw results, with the CPU seconds that they took."""
    start = time.process_time()
    raw: dict[str, Any] = run()
    return {**raw, "cpu_seconds": time.process_time() - start}


def float_model(bundle: Path, model: str) -> Any:
    """The harness's class for Hugging Face models, on what `gsqc export --merged` writes."""
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run, merged = Path(folder) / "run", Path(folder) / "merged"
        Session(bundle, run).save()  # untrained: its adapter adds nothing
        given = ["export", str(bundle), "--run", str(run), "--merged", str(merged)]
        assert run_command([*given, "--model", model]) == 0
        about = {"dtype": "float32", "device": "cpu", "batch_size": FLOAT_BATCH}
        return HFLM(pretrained=str(merged), **about)


def values(raw: dict[str, Any], task: str) -> list[list[float]]:
    """The log-likelihoods of each item's choices."""
    samples = sorted(raw["samples"][task], key=lambda sample: sample["doc_id"])
    return [[response[0][0] for response in sample["resps"]] for sample in samples]


def compared(task: str, ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """A row: the accuracies of both, and how often their choices are the same."""
    row: dict[str, Any] = {"task": task}
    for name, raw in (("gsqc", ours), ("float32", theirs)):
        for metric in ("acc", "acc_norm"):
            row[f"{name} {metric}"] = raw["results"][task].get(f"{metric},none")
        row[f"{name} CPU s"] = round(raw["cpu_seconds"], 1)
    pairs = list(zip(values(ours, task), values(theirs, task), strict=True))
    row |= {"items": len(pairs), "passes": ours["passes"], "notes": ours["notes"]}
    row["same choice"] = sum(a.index(max(a)) == b.index(max(b)) for a, b in pairs)
    squares = [(x - y) ** 2 for a, b in pairs for x, y in zip(a, b, strict=True)]
    row["rms of differences, nats"] = round(math.sqrt(sum(squares) / len(squares)), 3)
    return row


def main() -> None:
    """Print a JSON line for each task."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--model", required=True, help="what the bundle was compiled from")
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--include-path", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    session = Session(given.bundle, threads=1)
    reference = float_model(given.bundle, given.model)
    for task in given.tasks.split(","):
        options = HarnessOptions((task,), (given.include_path,), given.limit)
        ours = timed(lambda o=options: by_gsqc(session, o))
        theirs = timed(lambda o=options: by_float(reference, o))
        print(json.dumps(compared(task, ours, theirs)), flush=True)


def by_gsqc(session: Session, options: HarnessOptions) -> dict[str, Any]:
    """The harness's results of the bundle, and what did not fit into its sequence."""
    results = evaluate_tasks(session, load_tasks(options), options)
    return {**results.raw, "notes": results.notes, "passes": results.passes}


def by_float(model: Any, options: HarnessOptions) -> dict[str, Any]:
    """The harness's results of the float model."""
    from lm_eval.evaluator import evaluate

    raw: dict[str, Any] = evaluate(
        model, load_tasks(options), limit=options.limit, bootstrap_iters=0
    )
    return raw


if __name__ == "__main__":
    main()
