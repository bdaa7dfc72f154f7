# SPDX-License-Identifier: Apache-2.0
"""run_page: makes the page of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gsqc.report.charts import Line, heat_map, line_chart, smooth
from gsqc.report.html import bars, card, escape, page, table, tile
from gsqc.report.measure import Histogram
from gsqc.report.run_files import RunFiles
from gsqc.training.run_paths import PATHS

_SHOWN_DIGESTS = 200


@dataclass(frozen=True)
class Measured:
    """What a page shows beside the log. An empty field leaves its card out.

    memory         bytes by part
    op_seconds     seconds of one step, by op
    adapters       settings, form, trained numbers and source of each adapter
    base           scale exponents of the base, by layer
    stored         name, format, bits per number and loss of each weight of a layer
    exponents      shared exponents of the adapter, by layer
    operand_bits  bits that the adapter's operands use, by layer
    samples        prompt, answer before training, answer after it
    asked          how the prompts were put, in sentences
    bundle         settings of the bundle
    notes          what could not be measured, and why
    """

    memory: Sequence[tuple[str, int]] = ()
    op_seconds: Sequence[tuple[str, float]] = ()
    adapters: Sequence[tuple[str, str, str, str]] = ()
    base: Sequence[Histogram] = ()
    stored: Sequence[tuple[str, str, str, str]] = ()
    exponents: Sequence[Histogram] = ()
    operand_bits: Sequence[Histogram] = ()
    samples: Sequence[tuple[str, str, str]] = ()
    asked: Sequence[str] = ()
    bundle: dict[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


def run_page(run: RunFiles, measured: Measured) -> str:
    """The page of a run, as HTML."""
    model = measured.bundle.get("model", "")
    told = [
        f"{model}" if model else "",
        f"{run.steps} steps",
        f"bits {measured.bundle['bits']}" if model else "",
    ]
    cards = [_loss(run), *_samples(measured), _rate(run), *_optional_curves(run)]
    cards += [*_memory(run, measured), *_time(measured), *_numbers(measured)]
    cards += [_settings(run, measured), _digests(run)]
    if measured.notes:
        cards.append(card("Not shown", table(enumerate(measured.notes, 1)), wide=True))
    return page(f"Run {run.name}", " · ".join(t for t in told if t), _tiles(run), cards)


def _tiles(run: RunFiles) -> list[str]:
    losses = run.series("loss")[1]
    tail = losses[-max(1, len(losses) // 10) :]
    tiles = (
        [tile("training loss", f"{sum(tail) / len(tail):.3f}", f"mean of last {len(tail)}")]
        if tail
        else []
    )
    held = run.series("validation_loss")[1]
    if held:
        best = min(held)
        tiles.append(tile("held-out loss", f"{best:.3f}", f"best; {held[0]:.3f} at first"))
    tiles.append(tile("steps", f"{run.steps:,}"))
    if run.tokens:
        tiles.append(tile("tokens", f"{run.tokens:,.0f}", "with a loss"))
    if run.seconds:
        tiles.append(
            tile(
                "time in steps",
                duration(run.seconds),
                f"{run.seconds / max(run.steps, 1):.2f} s a step",
            )
        )
    elif speed := run.last("tokens_per_second"):
        tiles.append(tile("tokens/s", f"{speed:.0f}", "at the end"))
    if peak := max(run.series("peak_rss_bytes")[1], default=0):
        tiles.append(tile("peak memory", size(peak), "resident"))
    if run.digest:
        tiles.append(tile("digest", run.digest[:8], f"after step {run.steps}"))
    return tiles


def duration(seconds: float) -> str:
    """Seconds in the unit that people would use."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d}"


def size(count: float) -> str:
    """Bytes in MiB or GiB."""
    mebibytes = count / 2**20
    return (
        f"{mebibytes / 1024:.2f} GiB"
        if mebibytes >= 1000
        else f"{mebibytes:.{0 if mebibytes >= 100 else 1}f} MiB"
    )


def _loss(run: RunFiles) -> str:
    steps, losses = run.series("loss")
    half_life = max(2.0, len(losses) / 40)
    held_steps, held = run.series("validation_loss")
    lines = [
        Line("each step", steps, losses, faint=True),
        Line("training", steps, smooth(losses, half_life)),
        Line("held-out", held_steps, held, 1, dots=len(held) <= 60),
    ]
    lines = [line for line in lines if line.values]
    note = f"Nats a token. Training is smoothed with a half-life of {half_life:.3g} steps."
    return card("Loss", line_chart(lines, "loss over steps", wide=True), note, wide=True)


def _rate(run: RunFiles) -> str:
    steps, rates = run.series("learning_rate")
    return card(
        "Learning rate",
        line_chart([Line("learning rate", steps, rates, 2)], "learning rate", from_zero=True),
    )


def _optional_curves(run: RunFiles) -> list[str]:
    chosen = (("tokens_per_second", "Tokens per second", 3), ("gradient_norm", "Gradient norm", 4))
    found = [(title, colour, *run.series(name)) for name, title, colour in chosen]
    return [
        card(title, line_chart([Line(title, steps, values, colour)], title, from_zero=True))
        for title, colour, steps, values in found
        if values
    ]


def _memory(run: RunFiles, measured: Measured) -> list[str]:
    if not measured.memory:
        return []
    rows = [(name, float(count), size(count)) for name, count in measured.memory]
    peak = max(run.series("peak_rss_bytes")[1], default=0)
    note = "As planned by the compiler." + (
        f" The process held {size(peak)} at most, Python included." if peak else ""
    )
    return [card("Memory by part", bars(rows), note)]


def _time(measured: Measured) -> list[str]:
    if not measured.op_seconds:
        return []
    total = sum(seconds for _, seconds in measured.op_seconds) or 1
    shown = [(name, s) for name, s in measured.op_seconds if s >= 0.005 * total]
    rest = total - sum(s for _, s in shown)
    rows = [*shown, ("others", rest)] if rest > 0 else shown
    labelled = [(name, s, f"{1000 * s:.1f} ms {100 * s / total:3.0f} %") for name, s in rows]
    note = (
        f"One sequence forward and backward, and one update: {total:.2f} s. "
        "Measured when this page was made."
    )
    return [card("Time by op", bars(labelled), note)]


def _numbers(measured: Measured) -> list[str]:
    cards = []
    if measured.adapters:
        head = ("adapter", "what a linear computes", "numbers trained", "source")
        cards.append(card("Adapter", table(measured.adapters, head)))
    if measured.exponents:
        body = heat_map(measured.exponents, "exponent", "shared exponents of the adapter by layer")
        note = (
            "Each row is a layer and each column a power of two. "
            "The darker a field, the more groups of 32 share that exponent."
        )
        cards.append(card("Adapter: shared exponents", body, note))
        body = heat_map(measured.operand_bits, "bits", "bits of the adapter's operands by layer", 2)
        note = (
            "How many bits the magnitude of an operand needs, a mantissa times its step. "
            "Few bits in all of a group mean that another group of the row is much larger."
        )
        cards.append(card("Adapter: bits of its operands", body, note))
    if measured.base:
        body = heat_map(measured.base, "exponent", "scale exponents of the base by layer", 3)
        cards.append(
            card("Base: exponents of the scales", body, "The frozen linears of each layer.")
        )
    if measured.stored:
        head = ("weight of a layer", "format", "bits a number", "against the file")
        note = "Scales and offsets included. A loss is the RMS of the difference over the weight's."
        cards.append(card("Base: as stored", table(measured.stored, head), note))
    return cards


def _samples(measured: Measured) -> list[str]:
    if not measured.samples:
        return []
    parts = [
        f'<div class="sample"><h3>{escape(prompt)}</h3>'
        f"<p><small>before</small>{escape(before.strip())}</p>"
        f"<p><small>after</small>{escape(after.strip())}</p></div>"
        for prompt, before, after in measured.samples
    ]
    note = ". ".join(["The likeliest tokens, without sampling", *measured.asked])
    return [card("Before and after", "".join(parts), f"{note}.", wide=True)]


def _settings(run: RunFiles, measured: Measured) -> str:
    rows = [
        (key.replace("_", " "), value)
        for key, value in {**measured.bundle, **run.config}.items()
        if key != PATHS  # where files lie on this machine is not for the reader of a page
    ]
    return card(
        "Settings",
        table(rows, code=True) if rows else "<p>The run has no config.json.</p>",
        wide=True,
    )


def _digests(run: RunFiles) -> str:
    digests = [(e.step, e.digest) for e in run.entries if e.digest]
    if not digests:
        return ""
    step, last = digests[-1]
    size_of_step = -(-len(digests) // _SHOWN_DIGESTS)
    shown = digests[::size_of_step]
    every = "each step" if size_of_step == 1 else f"every {size_of_step}th step"
    steps = table(shown, ("step", "digest"), code=True)
    more = f"<details><summary>{every}</summary>{steps}</details>"
    note = (
        "sha256 over the training state. "
        "The same bundle, data and settings give the same digests on any machine."
    )
    return card("Digests", table([(f"step {step}", last)], code=True) + more, note, wide=True)
