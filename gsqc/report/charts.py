# SPDX-License-Identifier: Apache-2.0
"""Draws charts as inline SVG. Colours are the page's --s0 to --s7, and `escape` takes all text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gsqc.report.html import escape

WIDTH, HEIGHT = 520, 250
WIDE, WIDE_HEIGHT = 1100, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 10, 34
COLOURS = 8
_MOST_POINTS = 500


@dataclass(frozen=True)
class Line:
    """A series of values over steps.

    `faint` draws it thin and pale and cuts its outliers. `dots` marks each value.
    """

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    colour: int = 0
    faint: bool = False
    dots: bool = False


def smooth(values: Sequence[float], half_life: float) -> list[float]:
    """The exponential moving average, corrected so that its first values are not near zero."""
    decay = 0.5 ** (1 / max(half_life, 0.5))
    result: list[float] = []
    total = weight = 0.0
    for value in values:
        total, weight = decay * total + value, decay * weight + 1
        result.append(total / weight)
    return result


def thin(line: Line) -> Line:
    """The line with at most 500 points. Each is a mean of neighbours."""
    size = math.ceil(len(line.values) / _MOST_POINTS)
    if size <= 1:
        return line
    starts = range(0, len(line.values), size)
    steps = [sum(line.steps[k : k + size]) / len(line.steps[k : k + size]) for k in starts]
    values = [sum(line.values[k : k + size]) / len(line.values[k : k + size]) for k in starts]
    return Line(line.name, steps, values, line.colour, line.faint, line.dots)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from below `low` to above `high`."""
    # Floats that are closer than this have too few numbers between them.
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = (-0.5, 0.5) if low == 0 else sorted((low * 0.9, low * 1.1))
    raw = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def number(value: float) -> str:
    """A number as a short text, for ticks and values."""
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def legend(lines: Sequence[Line]) -> str:
    """The legend: each line's name with its colour."""
    styles = (
        f"background:var(--s{n.colour % COLOURS});opacity:{0.45 if n.faint else 1}" for n in lines
    )
    keys = (
        f'<span><i style="{s}"></i>{escape(n.name)}</span>'
        for s, n in zip(styles, lines, strict=True)
    )
    return f'<div class="legend">{"".join(keys)}</div>'


def line_chart(
    lines: Sequence[Line], label: str, *, from_zero: bool = False, wide: bool = False
) -> str:
    """Lines over steps, with a legend if there are several.

    `label` describes the chart to those who cannot see it. A wide chart comes in two sizes, of
    which the page shows one, so that its text can be read on a phone too.
    """
    lines = [thin(line) for line in lines if line.values]
    if not lines:
        return '<p class="note">The log has no such values.</p>'
    keys = legend(lines) if len(lines) > 1 else ""
    narrow = _chart(lines, label, from_zero, WIDTH, HEIGHT)
    if not wide:
        return keys + narrow
    large = _chart(lines, label, from_zero, WIDE, WIDE_HEIGHT)
    return f'{keys}<div class="large">{large}</div><div class="small">{narrow}</div>'


def _span(lines: Sequence[Line]) -> tuple[float, float]:
    """The least and the largest value, without the outer 2 % at each end of faint lines."""
    ends = []
    for line in lines:
        values = sorted(line.values)
        cut = len(values) // 50 if line.faint else 0
        ends += [values[cut], values[-1 - cut]]
    return min(ends), max(ends)


def _chart(lines: Sequence[Line], label: str, from_zero: bool, width: int, height: int) -> str:
    low, high = _span(lines)
    rows = ticks(0 if from_zero else low, high)
    left, right = min(min(n.steps) for n in lines), max(max(n.steps) for n in lines)
    columns = [t for t in ticks(left, right, 6) if left <= t <= right and t == int(t)]

    def x(step: float) -> float:
        return _LEFT + (step - left) / ((right - left) or 1) * (width - _LEFT - _RIGHT)

    def y(value: float) -> float:
        inside = min(max(value, rows[0]), rows[-1])
        return (
            height - _BOTTOM - (inside - rows[0]) / (rows[-1] - rows[0]) * (height - _TOP - _BOTTOM)
        )

    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y(t) + 4:.1f}" text-anchor="end">{number(t)}</text>'
        for t in rows
    ]
    parts += [
        f'<text x="{x(t):.1f}" y="{height - _BOTTOM + 18}" text-anchor="middle">{number(t)}</text>'
        for t in columns
    ]
    parts.append(f'<text x="{width - _RIGHT}" y="{height - 2}" text-anchor="end">step</text>')
    parts += [
        _drawn(n, [(x(s), y(v)) for s, v in zip(n.steps, n.values, strict=True)]) for n in lines
    ]
    return _svg(width, height, label, parts)


def _svg(width: int, height: float, label: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{escape(label)}">'
    return f"{head}{''.join(parts)}</svg>"


def _drawn(line: Line, points: Sequence[tuple[float, float]]) -> str:
    colour = f"var(--s{line.colour % COLOURS})"
    width, opacity = (1, 0.45) if line.faint else (2.2, 1)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    drawn = (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'opacity="{opacity}" stroke-linejoin="round" stroke-linecap="round"/>'
    )
    if line.dots or len(points) == 1:
        for (x, y), step, value in zip(points, line.steps, line.values, strict=True):
            title = f"<title>{escape(line.name)}, step {number(step)}: {number(value)}</title>"
            drawn += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="{colour}">{title}</circle>'
    return drawn


def heat_map(
    rows: Sequence[dict[int, float]], column_name: str, label: str, colour: int = 0
) -> str:
    """Shares in [0, 1]: a row for each layer, a column for each integer, darker for more."""
    keys = [key for row in rows for key in row]
    if not keys:
        return '<p class="note">Nothing to show.</p>'
    first, last = min(keys), max(keys)
    width = (WIDTH - _LEFT - _RIGHT) / (last - first + 1)
    height = min(26.0, max(9.0, 300 / len(rows)))
    most = max((share for row in rows for share in row.values()), default=1) or 1
    bottom = _TOP + height * len(rows)
    parts = []
    for k, row in enumerate(rows):
        for key, share in row.items():
            left, top = _LEFT + width * (key - first), _TOP + height * k
            title = f"<title>layer {k}, {escape(column_name)} {key}: {100 * share:.1f} %</title>"
            parts.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{width - 1:.1f}" '
                f'height="{height - 1:.1f}" rx="1.5" fill="var(--s{colour})" '
                f'opacity="{max(share / most, 0.04):.3f}">{title}</rect>'
            )
    every = max(1, math.ceil(len(rows) * 15 / (height * len(rows))), len(rows) // 8 or 1)
    parts += [
        f'<text x="{_LEFT - 8}" y="{_TOP + height * (k + 0.5) + 4:.1f}" '
        f'text-anchor="end">{k}</text>'
        for k in range(0, len(rows), every)
    ]
    skip = max(1, math.ceil(34 / width))
    parts += [
        f'<text x="{_LEFT + width * (key - first + 0.5):.1f}" y="{bottom + 16:.1f}" '
        f'text-anchor="middle">{key}</text>'
        for key in range(first, last + 1, skip)
    ]
    parts.append(
        f'<text x="{WIDTH - _RIGHT}" y="{bottom + 32:.1f}" '
        f'text-anchor="end">{escape(column_name)}</text>'
    )
    return _svg(WIDTH, bottom + 36, label, parts)
