# SPDX-License-Identifier: Apache-2.0
"""The table and the plot of results: held-out loss after the steps, beside float32's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.fidelity.recipes import FLOAT, PEERS, operand_bits
from benchmarks.fidelity.results import Result

FAMILIES = {
    "gsqc": ("#c0392b", "o"),
    "gse": ("#e59866", "s"),
    "mx": ("#2471a3", "^"),
    "": ("#566573", "D"),
}
"""Colour and marker of a side, by what its name begins with."""
PLACES = [(8, 0, "left"), (-8, 0, "right"), (8, 9, "left"), (-8, 9, "right"), (8, -9, "left")]
PLACES += [(-8, -9, "right"), (8, 18, "left"), (-8, 18, "right"), (8, -18, "left")]
"""Where a name may stand beside its point: an offset in points, and the end that is there."""
BIT_TICKS, LOSS_TICKS = (4, 5, 6, 8, 16), (0, 0.25, 0.5, 1, 2, 5, 10, 20)


@dataclass(frozen=True)
class Row:
    """A side's runs of one text, rate, length and number of steps, beside those of float32.

    runs  by order: the side's result, and that of float32
    """

    side: str
    runs: dict[int, tuple[Result, Result]]

    @property
    def name(self) -> str:
        """The side as people read it."""
        return self.side if self.side in PEERS else f"gsqc {self.side}"

    @property
    def above(self) -> dict[int, float]:
        """Per cent of held-out loss above float32, by order."""
        return {order: 100 * (own.after / ref.after - 1) for order, (own, ref) in self.runs.items()}

    @property
    def mean(self) -> float:
        """The mean of `above`."""
        return fmean(self.above.values())

    @property
    def worst_step(self) -> float:
        """By how much a training step's loss was above float32's at most, in nats."""
        pairs = (zip(own.losses, ref.losses, strict=True) for own, ref in self.runs.values())
        return max(a - b for pair in pairs for a, b in pair)


def grouped(results: Iterable[Result]) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by (text, rate, steps, seq, warm-up), the sides by falling bits.

    Runs without a float32 run beside them are left out.
    """
    groups: dict[tuple[Any, ...], dict[str, dict[int, Result]]] = {}
    for result in results:
        run = result.run
        key = (run.text, run.rate, run.steps, run.seq, run.warmup)
        groups.setdefault(key, {}).setdefault(run.side, {})[run.order] = result
    rows = {}
    for key, sides in groups.items():
        reference = sides.get(FLOAT, {})
        shared = {
            side: {o: (r, reference[o]) for o, r in sorted(runs.items()) if o in reference}
            for side, runs in sides.items()
        }
        found = [Row(side, runs) for side, runs in shared.items() if runs]
        rows[key] = sorted(found, key=lambda row: (-operand_bits(row.side), row.mean))
    return rows


def _cells(row: Row, orders: Sequence[int]) -> Iterator[str]:
    """The cells of a row. An order that was not run is a dash."""
    before = {own.before for own, _ in row.runs.values() if own.before is not None}
    yield row.name
    yield f"{operand_bits(row.side):.4g}"
    yield f"{before.pop():.4f}" if before else "–"
    yield " · ".join(f"{row.runs[o][0].after:.4f}" if o in row.runs else "–" for o in orders)
    if row.side == FLOAT:
        yield from ("", "", "")
        return
    yield " · ".join(f"{row.above[o]:+.2f}" if o in row.runs else "–" for o in orders)
    yield f"{row.mean:+.2f}"
    yield f"{row.worst_step:+.2f}"


def table(results: Iterable[Result]) -> str:
    """Markdown: a table for each text and rate."""
    lines = []
    for (text, rate, steps, seq, _), rows in grouped(results).items():
        orders = sorted({order for row in rows for order in row.runs})
        some = next(iter(rows[0].runs.values()))[0]
        listed = ", ".join(map(str, orders))
        lines += [
            f"{text}, rate {rate}, {steps} steps of at most {seq} tokens, {some.tokens} held-out "
            f"tokens, {some.machine}:",
            "",
            f"| side | bits | before | after (orders {listed}) | % above float32 | mean "
            "| worst step |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [f"| {' | '.join(_cells(row, orders))} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def _family(row: Row) -> tuple[str, str]:
    return next(style for start, style in FAMILIES.items() if row.name.startswith(start))


def _label(axes: Any, text: str, point: tuple[float, float], colour: str, taken: list[Any]) -> None:
    """Write a name beside its point, at the first place where it covers nothing of `taken`."""
    style = {"textcoords": "offset points", "fontsize": 7.5, "color": colour}
    note = axes.annotate(text, point, (0, 0), **style)
    for x, y, side in PLACES:
        note.set(position=(x, y), horizontalalignment=side, verticalalignment="center")
        box = note.get_window_extent()
        if not any(box.overlaps(other) for other in taken):
            break
    taken.append(box)


def _panel(axes: Any, rows: list[Row]) -> None:
    """Points with a bar from the least to the largest order, and their names."""
    from matplotlib.transforms import Bbox

    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(BIT_TICKS, [str(t) for t in BIT_TICKS])
    axes.set_xlim(3.8, 26)
    axes.set_yscale("symlog", linthresh=0.5, linscale=0.6)
    axes.set_yticks(LOSS_TICKS, [f"{t:g} %" for t in LOSS_TICKS])
    axes.set_ylim(-0.3, 1.3 * max(2, *(max(row.above.values()) for row in rows)))
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    zero = axes.transData.transform((4, 0))[1]
    taken, points = [Bbox([[-1e4, zero - 1], [1e4, zero + 1]])], []
    for row in rows[1:]:  # the first is float32
        colour, marker = _family(row)
        point, spread = (operand_bits(row.side), row.mean), row.above.values()
        axes.plot([point[0]] * 2, [min(spread), max(spread)], color=colour, linewidth=1)
        axes.plot(*point, marker, color=colour, markersize=6)
        points.append((row.name, point, colour))
        x, y = axes.transData.transform(point)
        taken.append(Bbox([[x - 6, y - 6], [x + 6, y + 6]]))
    for name, point, colour in points:
        _label(axes, name, point, colour, taken)


def draw(results: Iterable[Result], path: Path) -> None:
    """Held-out loss above float32 against bits of an operand: a panel for each text and rate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = {key: rows for key, rows in grouped(results).items() if len(rows) > 1}
    if not groups:
        return
    figure, panels = pyplot.subplots(
        1, len(groups), figsize=(6.4 * len(groups), 5.2), squeeze=False, layout="constrained"
    )
    figure.canvas.draw()
    for axes, ((text, rate, *_), rows) in zip(panels[0], groups.items(), strict=True):
        axes.set_title(f"{text}, rate {rate}", fontsize=10)
        axes.set_xlabel("bits of an operand, scales counted")
        _panel(axes, rows)
    panels[0][0].set_ylabel("held-out loss above float32 LoRA")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
