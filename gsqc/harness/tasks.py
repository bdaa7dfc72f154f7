# SPDX-License-Identifier: Apache-2.0
"""Finds tasks by name and opens them with their data. All that is missing is told at once."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from fnmatch import filter as matching
from typing import Any

from gsqc.errors import DataError, OptionError
from gsqc.harness.options import HarnessOptions

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
QUIET = {"TQDM_DISABLE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
_LONGEST = 200
"""Characters of an error of the harness that are shown."""


def prepare_environment(options: HarnessOptions) -> None:
    """Tell Hugging Face's packages to stay offline, unless the network is asked for.

    They read these variables when they are imported. Where they are already, as in a notebook, the
    values that they took are replaced.
    """
    os.environ.update(QUIET)
    if options.online:
        return
    os.environ.update(OFFLINE)
    for module in ("huggingface_hub.constants", "datasets.config"):
        if module in sys.modules:
            vars(sys.modules[module])["HF_HUB_OFFLINE"] = True


def open_tasks(options: HarnessOptions) -> dict[str, Any]:
    """The tasks that are asked for, as the harness's TaskManager.load gives them.

    Raises OptionError for names that it does not know, and for tasks that a bundle cannot do.
    Raises DataError for tasks that cannot be opened, such as those whose data is not here.
    """
    manager, names = _find(options)
    tasks: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
    problems = []
    for name in names:
        try:
            found = manager.load([name])
        except Exception as error:
            # A task file is a program of its author's: its errors may be any.
            problems.append(f"{name} ({_shown(error)})")
            continue
        for part, known in tasks.items():
            known.update(found.get(part, {}))
    if problems:
        way = "check the task files and their data"
        if not options.online:
            way = f"--online lets the harness fetch data; or {way}"
        raise DataError(f"cannot open {', '.join(problems)}", way)
    _require_possible(tasks["tasks"])
    _set_shots(tasks["tasks"], options.fewshot)
    return tasks


def _find(options: HarnessOptions) -> tuple[Any, list[str]]:
    """The harness's index of tasks, and the names in it that are asked for."""
    from lm_eval.tasks import TaskManager

    if not options.names:
        raise OptionError("--tasks names no task", "name one, such as --tasks piqa")
    for path in options.include_path:
        if not path.is_dir():
            raise OptionError(f"{path} is no directory", "give one with task files (*.yaml)")
    included = [str(path) for path in options.include_path]
    # To read all task files of the harness takes ten seconds, so look at the user's own first.
    # Groups may name any task, and patterns may match any.
    if included:
        own = TaskManager(include_path=included, include_defaults=False)
        if set(options.names) <= set(own.all_subtasks):
            return own, options.names
    manager = TaskManager(include_path=included or None)
    names: dict[str, None] = {}
    unknown = []
    for name in options.names:
        found = sorted(matching(manager.all_tasks, name))
        names.update(dict.fromkeys(found))
        unknown += [] if found else [name]
    if unknown:
        close = get_close_matches(unknown[0], manager.all_tasks, 3)
        raise OptionError(
            f"the harness knows no task {', '.join(unknown)}",
            f"did you mean {' or '.join(close)}?" if close else "lm-eval ls tasks lists them",
        )
    return manager, list(names)


def _require_possible(tasks: dict[str, Any]) -> None:
    """OptionError for tasks that run code, and for those that show pictures."""
    for name, task in tasks.items():
        if getattr(task, "UNSAFE_CODE", False):
            raise OptionError(
                f"{name} runs code that the model writes, and gsqc lm-eval does not",
                "leave it out, or run the harness itself with gsqc.harness.model",
            )
        if getattr(task, "MULTIMODAL", False):
            raise OptionError(f"{name} shows pictures, and gsqc reads text", "leave it out")


def _set_shots(tasks: dict[str, Any], fewshot: int | None) -> None:
    """Set the number of examples and their seed, as the harness's simple_evaluate does."""
    from lm_eval.defaults import DEFAULT_OTHER_SEED

    for task in tasks.values():
        shots = task.get_config("num_fewshot")
        # A task that says 0 does not work with examples.
        if fewshot is not None and shots != 0:
            task.set_config(key="num_fewshot", value=fewshot)
        elif shots is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)


def _shown(error: Exception) -> str:
    """An error of the harness or of a task file, in one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
    return f"{kind}{text}"[:_LONGEST]
