# SPDX-License-Identifier: Apache-2.0
"""The options of a compilation, and the short texts that the command line writes them in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsqc.adapters import parse_adapter
from gsqc.adapters.adapter import Adapter
from gsqc.adapters.lora import Lora
from gsqc.errors import OptionError
from gsqc.numerics.ops.accumulate import MAXIMUM_SEQUENCES
from gsqc.numerics.optim import OPTIMIZERS
from gsqc.targets.registry import NATIVE, check_target_options

RECOMPUTE = ("none", "auto", "blocks")
WEIGHTS = ("small", "fast")
BASES = ("gguf", "nf4", "gse4", "gse8")
MAXIMUM_SEQUENCE = 8192
MAXIMUM_BATCH = MAXIMUM_SEQUENCES
SEED_BITS = 62
"""The random generator takes a seed in two halves of 31 bits."""


@dataclass(frozen=True)
class Bits:
    """Widths: `w` of the stored base (4 or 8), `a` of activations and adapter factors, `g` of
    gradients (5 to 8).
    """

    w: int
    a: int
    g: int

    def __str__(self) -> str:
        return f"{self.w}-{self.a}-{self.g}"

    @staticmethod
    def parse(text: str) -> Bits:
        """Read "4-8-8". Raises OptionError."""
        numbers = re.fullmatch(r"([48])-([5-8])-([5-8])", text)
        if numbers is None:
            raise OptionError(
                f"--bits {text} is not W-A-G", "W is 4 or 8, A and G are 5 to 8: --bits 4-8-8"
            )
        return Bits(*map(int, numbers.groups()))


@dataclass(frozen=True)
class CompileOptions:
    """What `compile_model` is asked for.

    target           a name of `gsqc targets`, or `native`
    target_options   options that the target itself declares, by name, as sram_kib
    base             how the frozen weights are stored, of BASES: gguf keeps the codes of a GGUF file
    sequence_length  tokens of one sequence
    batch            sequences of one step, unless the training run says otherwise
    seed             of the adapter's initial values
    output           the bundle's directory
    recompute        of RECOMPUTE: blocks runs each block's forward again before its backward, which saves memory; auto
                     does it for as few blocks as a tenth more memory allows
    weights          of WEIGHTS: fast keeps two 8-bit operands of each base weight, small makes them at each use
    dump             where to write the graph after each pass, or None
    force            overwrite a bundle that exists
    runner           put gsqc-step, built for the target, into the bundle

    Raises OptionError with every value that is out of range.
    """

    output: Path
    target: str = NATIVE
    bits: Bits = Bits(4, 8, 8)
    base: str = "nf4"
    adapter: Adapter = field(default_factory=Lora)
    optimizer: str = "adamw"
    sequence_length: int = 128
    batch: int = 1
    seed: int = 0
    recompute: str = "blocks"
    weights: str = "fast"
    dump: Path | None = None
    force: bool = False
    runner: bool = False
    target_options: Mapping[str, object] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.target_options:
            check_target_options(self.target, self.target_options)
        problems = self._problems()
        if problems:
            raise OptionError(
                "; ".join(problems), "gsqc compile --help lists what each option takes"
            )

    def _problems(self) -> list[str]:
        ranges = (
            ("bits: W", self.bits.w, 4, 8),
            ("bits: A", self.bits.a, 5, 8),
            ("bits: G", self.bits.g, 5, 8),
            ("--seq", self.sequence_length, 1, MAXIMUM_SEQUENCE),
            ("--batch", self.batch, 1, MAXIMUM_BATCH),
            ("--seed", self.seed, 0, 2**SEED_BITS - 1),
        )
        problems = [
            f"{name} {n} is outside {low} to {high}"
            for name, n, low, high in ranges
            if not low <= n <= high
        ]
        if self.base not in BASES:
            problems.append(f"unknown --base {self.base} (one of {', '.join(BASES)})")
        elif self.bits.w != (8 if self.base == "gse8" else 4):
            problems.append(
                f"--base {self.base} does not store {self.bits.w} bits (W=8 is gse8, W=4 the others)"
            )
        if self.recompute not in RECOMPUTE:
            problems.append(f"unknown --recompute {self.recompute} (one of {', '.join(RECOMPUTE)})")
        if self.weights not in WEIGHTS:
            problems.append(f"unknown --weights {self.weights} (one of {', '.join(WEIGHTS)})")
        if self.optimizer not in OPTIMIZERS:
            problems.append(
                f"unknown --optimizer {self.optimizer} (one of {', '.join(OPTIMIZERS)})"
            )
        return [*problems, *self.adapter.problems()]


def default_base(model: str, bits: Bits, known_models: Mapping[str, Any]) -> str:
    """The base format of a model when none is asked for: the file's own codes where it has some."""
    if bits.w == 8:
        return "gse8"
    return "gguf" if model.lower().endswith(".gguf") or model in known_models else "nf4"


def parse_compile_options(
    model: str,
    *,
    bits: str,
    base: str | None,
    adapter: str,
    known_models: Mapping[str, Any],
    **values: Any,
) -> CompileOptions:
    """Options from the command line's texts. `values` are the other fields of CompileOptions.

    Raises one OptionError with every problem.
    """
    problems: list[OptionError] = []

    def attempt(parse: Callable[[], Any], fallback: Any) -> Any:
        try:
            return parse()
        except OptionError as error:
            problems.append(error)
            return fallback

    parsed_bits = attempt(lambda: Bits.parse(bits), None)
    # A text that could not be read takes a value that is right beside the others: only the others'
    # own problems show.
    shown = parsed_bits or Bits(8 if base == "gse8" else 4, 8, 8)
    parsed_adapter = attempt(lambda: parse_adapter(adapter), Lora())
    base = base or default_base(model, shown, known_models)
    options = attempt(
        lambda: CompileOptions(bits=shown, base=base, adapter=parsed_adapter, **values), None
    )
    if problems:
        raise OptionError(
            "; ".join(map(str, problems)), "; ".join(dict.fromkeys(e.hint for e in problems))
        )
    assert isinstance(options, CompileOptions)
    return options
