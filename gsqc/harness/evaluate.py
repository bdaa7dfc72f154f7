# SPDX-License-Identifier: Apache-2.0
"""evaluate_tasks: runs the harness on a session, and gives its results row by row."""

from __future__ import annotations

import json
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gsqc.errors import DataError, GsqcError
from gsqc.harness.installed import needs_harness
from gsqc.harness.options import HarnessOptions
from gsqc.harness.tasks import open_tasks, prepare_environment
from gsqc.runtime.session import Session

BOOTSTRAPS = 1000
"""Draws for the standard error of a metric that has no formula."""


@dataclass(frozen=True)
class TaskRow:
    """A metric of a task or a group.

    filter  how the harness takes an answer out of a text, or "none"
    value   the metric over `items` items, in the mean for most
    stderr  its standard error, if the harness knows one
    shots   solved examples before each item
    """

    task: str
    metric: str
    filter: str
    value: Any
    stderr: float | None
    items: int
    shots: int


@dataclass(frozen=True)
class HarnessResults:
    """What the harness found.

    rows     its metrics
    raw      all that it gave, with `samples`: each item with the model's values
    notes    what of the texts was cut
    seconds  from the first request to the last metric
    passes   evaluations of a sequence
    """

    rows: list[TaskRow]
    raw: dict[str, Any]
    notes: list[str]
    seconds: float
    passes: int


def load_tasks(options: HarnessOptions) -> dict[str, Any]:
    """The harness's tasks with their data. Raises OptionError and DataError."""
    prepare_environment(options)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with redirect_stdout(sys.stderr):  # the harness prints, and scripts read stdout
        with needs_harness():
            # First, or huggingface_hub complains of a circle in its imports.
            import datasets  # noqa: F401
            import lm_eval  # noqa: F401
        return open_tasks(options)


def evaluate_tasks(
    session: Session,
    tasks: dict[str, Any],
    options: HarnessOptions,
    watch: Callable[[int, int], object] = lambda done, total: None,
) -> HarnessResults:
    """Run tasks that `load_tasks` gave. The session's state does not change.

    `watch` gets the number of requests done and their total. Raises DataError and BundleError.
    """
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
    from lm_eval.evaluator import evaluate

    from gsqc.harness.model import GsqcLM

    model, start = GsqcLM(session, watch=watch), time.perf_counter()
    # The seeds of simple_evaluate. It itself would look at torch and all packages for seconds.
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    try:
        with redirect_stdout(sys.stderr):
            raw = evaluate(
                model,
                tasks,
                limit=options.limit,
                bootstrap_iters=BOOTSTRAPS,
                apply_chat_template=options.chat,
                fewshot_as_multiturn=options.chat,
            )
    except Exception as error:
        if isinstance(error, GsqcError) or _is_ours(error):
            raise
        raise DataError(
            f"the harness fails on these tasks: {type(error).__name__}: {error}",
            "check the task files and their data",
        ) from error
    raw["config"] = {**model.get_model_info(), "limit": options.limit, "chat": options.chat}
    note = model.scorer.cuts.describe(session.sequence_length)
    seconds, passes = time.perf_counter() - start, model.scorer.passes
    return HarnessResults([*_rows(raw)], raw, [note] if note else [], seconds, passes)


def _is_ours(error: BaseException) -> bool:
    """Whether an error of a task passed through gsqc's own code after this file's."""
    trace, package = error.__traceback__, str(Path(__file__).parents[1])
    files = []
    while trace is not None:
        files.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    return any(file.startswith(package) for file in files[1:])


def _rows(raw: dict[str, Any]) -> Iterator[TaskRow]:
    """The metrics of tasks, then those of groups. Keys of the harness are `metric,filter`."""
    for part in ("results", "groups"):
        for task, values in raw.get(part, {}).items():
            shots = raw.get("n-shot", {}).get(task, 0)
            for key, value in values.items():
                metric, comma, kind = key.partition(",")
                if not comma or metric.endswith("_stderr"):
                    continue
                error = values.get(f"{metric}_stderr,{kind}")
                stderr = float(error) if isinstance(error, float | int) else None
                items = int(values.get("sample_len", 0))
                yield TaskRow(task, metric, kind, value, stderr, items, shots)


def results_text(results: HarnessResults, *, with_samples: bool) -> str:
    """The raw results as JSON, as the harness writes them, with every item or without."""
    from lm_eval.utils import handle_non_serializable

    kept = {k: v for k, v in results.raw.items() if with_samples or k != "samples"}
    kept["gsqc"] = {"notes": results.notes, "seconds": results.seconds, "passes": results.passes}
    return json.dumps(kept, indent=2, default=handle_non_serializable, ensure_ascii=False) + "\n"
