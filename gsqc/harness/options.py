# SPDX-License-Identifier: Apache-2.0
"""What `gsqc lm-eval` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsqc.limits import MAXIMUM_COUNT
from gsqc.option import check_options, option

MAXIMUM_SHOTS = 1000
GROUP = "Tasks"


@dataclass(frozen=True)
class HarnessOptions:
    """Which tasks run, and on how much of their data.

    Raises OptionError.
    """

    tasks: tuple[str, ...] = option(
        help="Names of tasks, of groups, or patterns such as mmlu_*. Commas separate several.",
        group=GROUP,
    )
    include_path: tuple[Path, ...] = option(
        (),
        help="Directory with task files of your own. Such a file may run Python: trust it first.",
        group=GROUP,
    )
    limit: int | None = option(
        None,
        help="Take only the first items of each task.",
        group=GROUP,
        minimum=1,
        maximum=MAXIMUM_COUNT,
    )
    fewshot: int | None = option(
        None,
        help="Solved examples before each item. Without it, as many as the task says.",
        group=GROUP,
        minimum=0,
        maximum=MAXIMUM_SHOTS,
    )
    chat: bool = option(False, help="Put requests into the model's chat template.", group=GROUP)
    online: bool = option(
        False,
        help="Let the harness fetch data from Hugging Face. Without it, no network is used.",
        group=GROUP,
    )

    def __post_init__(self) -> None:
        """Check all values."""
        check_options(self)

    @property
    def names(self) -> list[str]:
        """The names and patterns of tasks, each once."""
        parts = (part.strip() for text in self.tasks for part in text.split(","))
        return list(dict.fromkeys(filter(None, parts)))
