# SPDX-License-Identifier: Apache-2.0
"""TrainResult: the outcome of a run, and its loss as a plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsqc.errors import OptionError
from gsqc.training.progress import Best, best_of


@dataclass(frozen=True)
class TrainResult:
    """A run after `train`.

    run     its directory, from which gsqc.Session(bundle, run) goes on
    end     why it ended: "done", "stopped early", "stopped" (Ctrl-C), "stopped by a callback"
    step    the number of its steps
    digest  the sha256 over its state
    log     the lines of its log (docs/runs.md)
    notes   what the run told: data that was cut, forecasts, warnings, how to go on
    """

    run: Path
    end: str
    step: int
    digest: str
    log: list[dict[str, Any]] = field(repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        return [entry["loss"] for entry in self.log if "loss" in entry]

    @property
    def best(self) -> Best | None:
        """The lowest held-out loss and its step, or None without held-out data."""
        return best_of(self.log)

    def plot(self, axes: Any = None) -> Any:
        """Draw loss and held-out loss over the steps with matplotlib, and return the axes.

        OptionError if matplotlib is not installed.
        """
        try:
            from matplotlib import pyplot
        except ImportError:
            raise OptionError("matplotlib is not installed", "pip install matplotlib") from None
        axes = (
            axes if axes is not None else pyplot.subplots(figsize=(7, 3.5), layout="constrained")[1]
        )
        stepped = [entry for entry in self.log if "loss" in entry]
        evaluated = [entry for entry in self.log if "validation_loss" in entry]
        axes.plot(
            [e["step"] for e in stepped], [e["loss"] for e in stepped], linewidth=1, label="loss"
        )
        if evaluated:
            points = [e["step"] for e in evaluated], [e["validation_loss"] for e in evaluated]
            axes.plot(*points, marker="o", markersize=4, label="held-out loss")
        axes.set(xlabel="step", ylabel="nats per token", title=str(self.run))
        axes.legend()
        return axes
