# SPDX-License-Identifier: Apache-2.0
"""What the rest of gsqc knows of a target: a `Target`, which describes it and writes its code, and
its `Kernels`, which an executor binds to memory and runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import code_folder
from gsqc.bundle.manifest import TargetPart
from gsqc.bundle.plan import COPY, Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import OptionError, TargetError
from gsqc.numerics.ops.registry import Case, Op
from gsqc.option import Option
from gsqc.targets.kernels import Kernel
from gsqc.targets.programs import ProgramStyle

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A kernel of a function, or COPY, on arrays: inputs, then outputs.

    `frozen_bytes` of them belong to the base. The call is left out while `guard` holds a 0.
    """

    kernel: str
    function: str
    arrays: list[Array]
    frozen_bytes: int = 0
    guard: Array | None = None


class Program(Protocol):
    """Calls bound to their memory. They have ended when a method returns."""

    def run(self) -> None:
        """All of them, in order."""

    def run_one(self, index: int) -> None:
        """One of them."""


class Kernels(Protocol):
    """What an executor needs of a target. HostMemory (host_memory.py) has the first three for
    kernels on the host.
    """

    def allocate(self, size: int) -> Array:
        """Zeroed bytes at a multiple of ALIGNMENT, for kernels and for the host."""

    def place(self, array: Array) -> Array:
        """A frozen array where kernels can read it: itself, or a copy."""

    def clear(self, array: Array) -> None:
        """Zero, before the calls that come later."""

    def program(self, calls: Sequence[Call]) -> Program:
        """Calls of kernels, and copies, bound to their arrays."""

    def set_threads(self, count: int) -> None:
        """Use this many threads from now on. The results do not depend on it."""


@dataclass(frozen=True)
class Functions:
    """A program of Python functions, one a call."""

    functions: list[Callable[[], None]]

    def run(self) -> None:
        """All of them, in order."""
        for function in self.functions:
            function()

    def run_one(self, index: int) -> None:
        """One of them."""
        self.functions[index]()


def bind_each(
    calls: Sequence[Call], bind: Callable[[str, list[Array]], Callable[[], None]]
) -> Functions:
    """A program of calls. `bind` makes one of a kernel and its arrays, and copies are numpy's."""
    return Functions(
        [_copy(*c.arrays) if c.kernel == COPY else bind(c.kernel, c.arrays) for c in calls]
    )


def _copy(source: Array, target: Array) -> Callable[[], None]:
    return partial(np.copyto, target, source)


@dataclass(frozen=True)
class CodeJob:
    """What a target writes code for.

    plan          the step's plan
    leaner_plans  gives the plans that would do, by their value of --recompute: the step's own, then
                  those that recompute more. Making them takes time, so it is a function
    options       the target's own options that were given, by name
    runner        whether gsqc-step was asked for
    sources       the user's source line of each kind of node of the model, for error texts
    progress      is called with a few words when a part of the work begins
    smaller       what a user can do if no plan fits
    """

    plan: Plan
    leaner_plans: Callable[[], Mapping[str, Plan]]
    options: Mapping[str, object]
    runner: bool
    sources: Mapping[str, str]
    progress: Callable[[str], None]
    smaller: str = "--weights small, a shorter --seq or a smaller rank need less"


@dataclass(frozen=True)
class Code:
    """What was written: what the manifest says of it, and the value of --recompute whose plan the
    target took, if it chose.
    """

    part: TargetPart
    recompute: str | None = None


class Target(ABC):
    """A target, as `target.py` of its folder defines it. docs/add-a-target.md explains each part.

    name             what a user writes after --target
    description      one line for `gsqc targets`
    options          what it adds to `gsqc compile`
    native_rank      its place among the targets for this machine's CPU, of which `--target native`
                     takes the highest that runs here. None for other targets
    prefill          whether it has programs that read a prompt in chunks
    prepares_head    whether the head's operands are held in memory, as those of the blocks are
    runs_any_bundle  whether it runs a bundle of any target, because it needs no code of its own
    by_function      whether it runs each function as one program, not kernel by kernel
    listed           whether users see it

    The runtime uses `refusal` and `load`, which import neither torch nor a compiler. Heavy modules
    are imported inside the methods, so that reading `target.py` costs nothing.
    """

    name: str
    description: str
    options: tuple[Option, ...] = ()
    native_rank: int | None = None
    prefill = True
    prepares_head = False
    runs_any_bundle = False
    by_function = False
    listed = True

    def named(self, name: str) -> Target | None:
        """The target for a name that a user wrote, None if it is not this one."""
        return self if name == self.name else None

    def code_file(self, name: str) -> str:
        """The name in a bundle of a file of its code."""
        return code_folder(self.name) + name

    # -------------------------------------------------------------------------------------------
    # compiling

    def check_options(self, given: Mapping[str, object]) -> None:  # noqa: B027  most need none
        """OptionError if an option has a value that the target cannot use."""

    def require(self, *, runner: bool = False) -> None:
        """TargetError unless what makes its code is installed. OptionError if a runner is wanted
        and the target has none.
        """
        # Compiling a model takes minutes, so what is missing has to be known before.
        if runner:
            raise OptionError(
                f"gsqc-step runs CPU code, not {self.name}",
                "leave out --runner, or take a CPU target",
            )

    @abstractmethod
    def add_code(self, bundle: BundleWriter, job: CodeJob) -> Code:
        """Add the code to a bundle, as files that `code_file` names. Raises TargetError."""

    def add_programs(
        self, bundle: BundleWriter, plan: Plan, progress: Callable[[str], None]
    ) -> dict[str, Any]:
        """Add what this target gives to bundles of all targets. Gives the manifest's fields."""
        return {}

    def program_style(self) -> ProgramStyle | None:
        """How whole programs must be written for the compiler that will read them. None if it takes
        any form.
        """
        return None

    @abstractmethod
    def lower(self, operation: Op, case: Case) -> None:
        """Write the code of one op without running it. Any error says that it cannot be lowered."""

    def compile_here(self, kernels: Sequence[Kernel]) -> Kernels:
        """Compile single kernels and load them into this process. TargetError if it cannot."""
        raise TargetError(
            f"{self.name} compiles no single kernels", "measure with a CPU target (gsqc targets)"
        )

    # -------------------------------------------------------------------------------------------
    # running

    def entry(self) -> TargetPart:
        """What a bundle's manifest says of the target: enough to decide where its code runs."""
        return TargetPart(self.name, rank=self.native_rank)

    def refusal(self, entry: TargetPart) -> TargetError | None:
        """The user's error if this machine cannot run code with this entry, else None."""
        return None

    @abstractmethod
    def load(self, bundle: Bundle, plan: Plan) -> Kernels:
        """The kernels of a bundle. Raises BundleError or TargetError."""

    def runner_command(self, bundle: Path) -> list[str] | None:
        """The command that runs the code's gsqc-step in an emulator of its machine. None if this
        process runs the code itself. TargetError if neither is possible.
        """
        error = self.refusal(self.entry())
        if error is not None:
            raise error
        return None

    def describe(self, part: TargetPart) -> dict[str, Any]:
        """What `gsqc inspect` shows of its code, beside what it shows of every bundle."""
        return {}
