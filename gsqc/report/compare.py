# SPDX-License-Identifier: Apache-2.0
"""Compares several runs: rows of a table, the settings that differ, and a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gsqc.report.charts import COLOURS, Line, line_chart, smooth
from gsqc.report.html import card, page, table
from gsqc.report.run_files import RunFiles
from gsqc.report.run_page import duration, size

HEAD = ("run", "steps", "training loss", "held-out", "tokens/s", "time", "peak memory", "digest")
_TELLING_NOTHING = ("data", "bundle_path", "paths", "run")
"""Settings that name a place. They may differ between equal runs."""


def run_names(runs: Sequence[RunFiles]) -> list[str]:
    """A name for each run: that of its directory, with that of its parent if two are the same."""
    plain = [run.name for run in runs]
    return [
        name if plain.count(name) == 1 else f"{run.path.resolve().parent.name}/{name}"
        for name, run in zip(plain, runs, strict=True)
    ]


def summary(run: RunFiles) -> dict[str, Any]:
    """The numbers that runs are compared by. None stands for what the log does not hold."""
    losses = run.series("loss")[1]
    tail = losses[-max(1, len(losses) // 10) :]
    held, speeds = run.series("validation_loss")[1], run.series("tokens_per_second")[1]
    return {
        "steps": run.steps,
        "loss": sum(tail) / len(tail) if tail else None,
        "validation_loss": min(held) if held else None,
        "tokens_per_second": sorted(speeds)[len(speeds) // 2] if speeds else None,
        "seconds": run.seconds,
        "peak_rss_bytes": max(run.series("peak_rss_bytes")[1], default=None),
        "digest": run.digest or None,
    }


def summary_row(name: str, run: RunFiles) -> list[str]:
    """The summary as texts, in the order of HEAD."""
    s = summary(run)

    def text(key: str, form: Any) -> str:
        return "" if s[key] is None else str(form(s[key]))

    return [
        name,
        str(s["steps"]),
        text("loss", "{:.4f}".format),
        text("validation_loss", "{:.4f}".format),
        text("tokens_per_second", "{:.0f}".format),
        text("seconds", duration),
        text("peak_rss_bytes", size),
        text("digest", lambda d: d[:12]),
    ]


def differences(runs: Sequence[RunFiles]) -> list[list[str]]:
    """The settings that are not the same in all runs: name, then the value in each run."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    rows = [
        [key, *(str(run.config.get(key, "")) for run in runs)]
        for key in keys
        if key not in _TELLING_NOTHING
    ]
    return [row for row in rows if len(set(row[1:])) > 1]


def compare_page(runs: Sequence[RunFiles]) -> str:
    """The page of several runs, as HTML."""
    names = run_names(runs)
    coloured = [
        (name, run, k % COLOURS) for k, (name, run) in enumerate(zip(names, runs, strict=True))
    ]
    charts = [
        card(
            "Training loss",
            line_chart(_smoothed(coloured), "training loss of each run", wide=True),
            _NOTE,
            wide=True,
        )
    ]
    for field, title in _FIELDS.items():
        lines = [
            Line(name, *run.series(field), k, dots=field == "validation_loss")
            for name, run, k in coloured
        ]
        if any(line.values for line in lines):
            charts.append(card(title, line_chart(lines, title, from_zero=field in _FROM_ZERO)))
    rows = [summary_row(name, run) for name, run in zip(names, runs, strict=True)]
    charts.insert(
        0,
        card("Runs", table(rows, HEAD), "Training loss is the mean of the last tenth.", wide=True),
    )
    changed = differences(runs)
    body = (
        table(changed, ("setting", *names), code=True)
        if changed
        else "<p>All settings are the same.</p>"
    )
    charts.append(card("Settings that differ", body, wide=True))
    return page(f"{len(runs)} runs", " · ".join(names), [], charts)


_NOTE = "Nats a token, smoothed with a half-life of a fortieth of the run."
_FIELDS = {
    "validation_loss": "Held-out loss",
    "learning_rate": "Learning rate",
    "tokens_per_second": "Tokens per second",
    "gradient_norm": "Gradient norm",
}
_FROM_ZERO = ("learning_rate", "tokens_per_second", "gradient_norm")


def _smoothed(runs: Sequence[tuple[str, RunFiles, int]]) -> list[Line]:
    lines = []
    for name, run, colour in runs:
        steps, losses = run.series("loss")
        lines.append(Line(name, steps, smooth(losses, max(2.0, len(losses) / 40)), colour))
    return lines
