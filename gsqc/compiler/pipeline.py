# SPDX-License-Identifier: Apache-2.0
"""PIPELINE: the passes from a captured model to the plan of a step, in order. Training and
generation go through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gsqc.bundle.plan import SchedulePlan
from gsqc.files.writing import replace_file
from gsqc.graph.function import format_function
from gsqc.passes.add_adapters import add_adapters
from gsqc.passes.add_clipping import add_clipping
from gsqc.passes.add_loss import add_loss
from gsqc.passes.add_optimizer import add_optimizer
from gsqc.passes.build_schedules import build_schedules
from gsqc.passes.choose_recompute import choose_recompute
from gsqc.passes.differentiate import differentiate
from gsqc.passes.expand_composites import expand_composites
from gsqc.passes.hoist_constants import hoist_constants
from gsqc.passes.list_buffers import list_buffers
from gsqc.passes.lower_functions import lower_functions
from gsqc.passes.lower_model import lower_model
from gsqc.passes.optional.optional_pass import OptionalPass
from gsqc.passes.outline_blocks import outline_blocks
from gsqc.passes.quantise_base import quantise_base
from gsqc.passes.share_repeated import share_repeated
from gsqc.passes.split_attention import split_attention
from gsqc.passes.step import Pass, Step

PIPELINE: tuple[Pass, ...] = (
    # The captured model: float nodes become typed integer ops, part by part.
    outline_blocks,
    lower_model,
    quantise_base,
    add_adapters,
    # Training: loss, backward, update.
    add_loss,
    differentiate,
    add_optimizer,
    add_clipping,
    # Every call becomes one kernel, and nothing is computed twice.
    split_attention,
    expand_composites,
    share_repeated,
    hoist_constants,
    # Kernels, memory, and the order of the calls.
    lower_functions,
    list_buffers,
    build_schedules,
    choose_recompute,
)

AfterPass = Callable[[Pass, Step], None]
"""Called with each pass that has run, and the step as it is then."""


def check_order(passes: tuple[Pass, ...]) -> None:
    """AssertionError unless each pass comes after one that ensures what it requires."""
    known: set[str] = set()
    for one in passes:
        missing = [needed.name for needed in one.requires if needed.name not in known]
        assert not missing, f"{one.name} requires that {missing[0]}: no pass before it ensures that"
        known |= {promised.name for promised in one.ensures}


def with_optional(chosen: Sequence[OptionalPass]) -> tuple[Pass, ...]:
    """PIPELINE with optional passes, each behind the pass that it names."""
    passes = []
    for one in PIPELINE:
        passes += [one, *(o.graph_pass() for o in chosen if o.after == one.name)]
    return tuple(passes)


def run_pipeline(
    step: Step, passes: tuple[Pass, ...] = PIPELINE, after: AfterPass | None = None
) -> Step:
    """Run the passes in order. Raises ModelError and OptionError; an AssertionError is a fault of a
    pass.
    """
    check_order(passes)
    for one in passes:
        step = one(step)
        if after is not None:
            after(one, step)
    return step


def sections(step: Step) -> dict[str, str]:
    """The step as texts by title: its parts, its functions, and what is planned of it so far."""
    outline, plan = step.parts, step.plan
    parts = [f"embed: {len(outline.embed.nodes)} nodes, head: {len(outline.head.nodes)} nodes"]
    for kind, part in outline.kinds.items():
        parts.append(f"{kind} in layers {outline.layers_of(kind)}: {len(part.nodes)} nodes")
        parts += [f"  {p.name} {list(p.shape)} as {p.storage}" for p in part.parameters]
    found = {"parts": "\n".join(parts)}
    found |= {f"function {n}": format_function(f) for n, f in step.functions.items()}
    for name, function in plan.functions.items():
        lines = [f"{k}({', '.join(r.name for r in args)})" for k, args in function.calls]
        found[f"plan of {name}"] = "\n".join([*lines, f"scratch {function.scratch_bytes} bytes"])
    for kind, tensors in plan.buffers.items():
        lines = [f"{n}: {t.dtype}[{t.count}]" for n, t in tensors.items()]
        found[f"buffers: {kind}"] = "\n".join(lines)
    for name, schedule in plan.schedules.items():
        lines = [
            f"{f}({', '.join(f'{p}={r.name}' for p, r in b.items())}){_condition(schedule, k)}"
            for k, (f, b) in enumerate(schedule.calls)
        ]
        found[f"schedule {name}"] = "\n".join(
            [*lines, f"activations {schedule.activation_bytes} bytes"]
        )
    return found


def _condition(schedule: SchedulePlan, number: int) -> str:
    guard = schedule.guards.get(number)
    return "" if guard is None else f" if {guard.name}[{guard.offset}]"


def format_step(texts: dict[str, str]) -> str:
    """Sections as one text."""
    return "\n".join(f"== {title}\n{text.rstrip()}\n" for title, text in texts.items())


def write_dumps(directory: Path) -> AfterPass:
    """What `--dump` does: writes the printed step after each pass into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    number = 0

    def write(one: Pass, step: Step) -> None:
        nonlocal number
        number += 1
        text = format_step(sections(step))
        replace_file(directory / f"{number:02d}_{one.name}.txt", [text.encode()])

    return write
