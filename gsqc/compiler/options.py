# SPDX-License-Identifier: Apache-2.0
"""The options of a compilation, and the short texts that the command line writes them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gsqc.adapters import default_adapter, parse_adapter
from gsqc.adapters.adapter import Adapter
from gsqc.adapters.several import clashes
from gsqc.bundle.base import FILE_CODES
from gsqc.compiler.bits import Bits as Bits
from gsqc.errors import OptionError
from gsqc.limits import MAXIMUM_SEQUENCE_LENGTH, MAXIMUM_SEQUENCES
from gsqc.models.labels import require_labels
from gsqc.numerics.bases import BASES
from gsqc.numerics.optim import parse_optimizer
from gsqc.numerics.optim.adamw import AdamW
from gsqc.numerics.optim.optimizer import Optimizer
from gsqc.option import check_options, option
from gsqc.passes.optional import parse_pass
from gsqc.passes.optional.optional_pass import OptionalPass
from gsqc.targets.registry import NATIVE, check_target_options

RECOMPUTE = ("none", "auto", "blocks")
WEIGHTS = ("small", "fast")
WITH_CODES = (".gguf", ".onnx")
"""Files that may hold codes. Weights of theirs that are floats become nf4."""
FILE_BITS = 4
"""W of --bits with the file's own codes, which may have fewer or more."""
TASKS = GENERATE, CLASSIFY = ("generate", "classify")
SEED_BITS = 62
"""The random generator takes a seed in two halves of 31 bits."""

OUTPUT, NUMBERS, STEP, MEMORY = "Output", "Numbers", "Adapter and step", "Memory"


@dataclass(frozen=True)
class CompileOptions:
    """What `compile_model` is asked for. `target_options` are those that the target itself
    declares, by name.

    Raises OptionError with every value that is out of range.
    """

    output: Path = option(
        help="The bundle to write, NAME.gsqc.",
        flag="--output",
        short="-o",
        group=OUTPUT,
        example="model.gsqc",
    )
    target: str = option(
        NATIVE,
        help="The machine to compile for: native (this one), or a name that gsqc targets lists.",
        group=OUTPUT,
    )
    bits: Bits = option(
        Bits(4, 8, 8),
        help="Bits as W-A-G, of the stored base, of activations and of gradients. W-A-G:wN gives "
        "the base N bits in products, where it has A otherwise.",
        group=NUMBERS,
        decides_bits=True,
    )
    base: str = option(
        "nf4",
        command_default=None,
        help="How the base is stored. gguf keeps the file's own codes. Without it: gguf if the "
        "model has such codes, else nf4, or gse8 for 8 bits.",
        group=NUMBERS,
        choices=(FILE_CODES, *BASES),
        example="gguf",
        decides_bits=True,
    )
    calibrate: Path | None = option(
        None,
        help="A text that shows which columns of activations are strong. Those lose less then. "
        "Without it gsqc takes a text of its own, if A is 5 or 6. none: no calibration.",
        group=NUMBERS,
        example="text.txt",
        decides_bits=True,
    )
    adapter: tuple[Adapter, ...] = option(
        (default_adapter(),),
        command_default=str(default_adapter()),
        parse=parse_adapter,
        help="The adapter. It is on all linears, or with ,linears=q+v on those that are named: "
        "q, k, v, o, gate, up, down, or the end of a module's name, as c_attn. More than one may "
        "be given, each on linears of its own. One of them may name none, and takes the rest.",
        group=STEP,
        decides_bits=True,
    )
    task: str = option(
        GENERATE,
        help="What the model is for. classify gives a text one of some labels: MODEL is an encoder "
        "then (docs/classify.md).",
        group=STEP,
        choices=TASKS,
        decides_bits=True,
    )
    labels: str | None = option(
        None,
        help="The labels of --task classify in their order, or how many there are. Without it: "
        "those of the model's config.json.",
        group=STEP,
        example="negative,positive",
        decides_bits=True,
    )
    passes: tuple[OptionalPass, ...] = option(
        (),
        flag="--pass",
        parse=parse_pass,
        help="An optional pass. dropbp:rate=0.5 leaves out the backward pass of half the blocks in "
        "each step, by chance (docs/dropbp.md). lorc:rank=8 gives each linear back a part of what "
        "storing it has lost (docs/lorc.md). More than one may be given.",
        group=STEP,
        example="dropbp:rate=0.5",
        decides_bits=True,
    )
    optimizer: Optimizer = option(
        AdamW(),
        command_default="adamw",
        parse=parse_optimizer,
        help="The optimizer: adamw, sgd, or zo, which trains by forward passes alone (docs/zo.md).",
        group=STEP,
        decides_bits=True,
    )
    sequence_length: int = option(
        128,
        help="Tokens of a sequence.",
        flag="--seq",
        group=STEP,
        minimum=1,
        maximum=MAXIMUM_SEQUENCE_LENGTH,
        decides_bits=True,
    )
    image_rows: int = option(
        0,
        help="Rows of images that a sequence may have (docs/images.md). 0: text alone.",
        group=STEP,
        maximum=MAXIMUM_SEQUENCE_LENGTH,
        decides_bits=True,
    )
    batch: int = option(
        1,
        help="Sequences of a step, unless train --batch gives another number.",
        group=STEP,
        minimum=1,
        maximum=MAXIMUM_SEQUENCES,
        decides_bits=True,
    )
    seed: int = option(
        0,
        help="Seed of the adapter's initial values.",
        group=STEP,
        maximum=2**SEED_BITS - 1,
        decides_bits=True,
    )
    recompute: str = option(
        "blocks",
        help="What the backward pass computes again. blocks takes least memory, none is fastest, "
        "and auto recomputes as few blocks as a tenth more memory allows.",
        group=MEMORY,
        choices=RECOMPUTE,
    )
    weights: str = option(
        "fast",
        help="Operands of the base. fast keeps two 8-bit copies of each weight, small makes them "
        "at each use.",
        group=MEMORY,
        choices=WEIGHTS,
    )
    dump: Path | None = option(
        None,
        help="Write the graph after each pass into this directory.",
        group=OUTPUT,
        example="graphs",
    )
    force: bool = option(False, help="Overwrite the bundle.", group=OUTPUT)
    runner: bool = option(False, help="Add gsqc-step, which trains without Python.", group=OUTPUT)
    target_options: Mapping[str, object] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check all values, those of the target and the adapter too, and that base and bits fit
        together.
        """
        if isinstance(self.adapter, Adapter):
            object.__setattr__(self, "adapter", (self.adapter,))
        if self.target_options:
            check_target_options(self.target, self.target_options)
        problems = [*self._adapter_problems(), *self.optimizer.problems(), *self._label_problems()]
        problems += self._pass_problems()
        if self.image_rows and self.task == CLASSIFY:
            problems.append(f"--task {CLASSIFY} reads text alone, so leave out --image-rows")
        stored = {FILE_CODES: FILE_BITS} | {name: base.bits for name, base in BASES.items()}
        if self.base in stored and self.bits.w != stored[self.base]:
            fits = ", ".join(name for name, bits in stored.items() if bits == self.bits.w)
            problems.append(
                f"--base {self.base} does not store {self.bits.w} bits (W={self.bits.w} is {fits})"
            )
        check_options(self, problems)

    def _adapter_problems(self) -> list[str]:
        if not isinstance(self.adapter, list | tuple) or not all(
            isinstance(one, Adapter) for one in self.adapter
        ):
            return []  # check_options names them
        if not self.adapter:
            return ["--adapter names no adapter"]
        object.__setattr__(self, "adapter", tuple(self.adapter))
        return [p for one in self.adapter for p in one.problems()] + list(clashes(self.adapter))

    def _pass_problems(self) -> list[str]:
        if not isinstance(self.passes, list | tuple) or not all(
            isinstance(one, OptionalPass) for one in self.passes
        ):
            return []  # check_options names them
        kinds = [one.kind for one in self.passes]
        wrong = [f"--pass {kind} is given twice" for kind in set(kinds) if kinds.count(kind) > 1]
        wrong += [
            f"--pass {one} needs a backward pass: --optimizer {self.optimizer} has none"
            for one in self.passes
            if one.of_backward and not self.optimizer.differentiates
        ]
        wrong += [
            f"--pass {one} with --base {self.base} {why}"
            for one in self.passes
            if (why := one.unfit(self.base))
        ]
        return [problem for one in self.passes for problem in one.problems()] + wrong

    def _label_problems(self) -> list[str]:
        if self.labels is None:
            return []
        if self.task != CLASSIFY:
            return [f"--labels {self.labels} has a meaning with --task {CLASSIFY} alone"]
        try:
            require_labels(self.labels)
        except OptionError as error:
            return [f"{error} ({error.hint})"]
        return []

    @property
    def classifies(self) -> bool:
        """Whether the bundle gives texts a label, and makes none."""
        return self.task == CLASSIFY
