# SPDX-License-Identifier: Apache-2.0
"""The step under compilation, which every pass takes and returns; and what makes a function a pass.

A pass declares what it requires and ensures as data (`graph_pass`). The checks run in every
compilation, so a pass that does nothing or runs too early is an error at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch.fx

from gsqc.adapters.adapter import Adapter, Parameter
from gsqc.adapters.linears import matrix_name
from gsqc.bundle.plan import KernelPlan, Plan
from gsqc.graph.function import Function
from gsqc.models.codes import Codes
from gsqc.numerics.formats import Spec
from gsqc.numerics.operators.trace import Trace
from gsqc.numerics.ops.registry import Kind
from gsqc.numerics.optim.optimizer import Optimizer
from gsqc.passes.outline import Outline
from gsqc.passes.outline import Parameter as FrozenParameter

CodesOf = Callable[[FrozenParameter, Sequence[str]], Codes]
"""From a weight of the blocks, and its names in all layers of its kind, to its codes in the first
of them.
"""


@dataclass(frozen=True)
class StepOptions:
    """What the passes are asked for.

    tokens           of a training sequence; generation reads as many at most
    activation_bits  width of activations and adapter factors in products, 5 to 8
    weight_bits      width of frozen weights in products, 4 to 8
    gradient_bits    width of gradients in products, 5 to 8
    adapters         each on linears of its own (`gsqc.adapters.several`)
    balance          columns are shifted before they are quantised (`gsqc.passes.sites`)
    keep_operands    the products' operands of base weights are made once a session, not at each use
    keep_head        so are those of the head's backward
    recompute        none, auto or blocks: which forward passes run again before their backward
    prompt_chunk     tokens of a prompt that generation reads at once; 1 reads one by one
    seed             of what the step draws by chance
    generates        whether the model makes text. A classifier gives one row of logits for a text
    image_rows       rows of images that a training sequence may have; 0: it reads text alone
    """

    tokens: int
    activation_bits: int
    weight_bits: int
    gradient_bits: int
    adapters: tuple[Adapter, ...]
    optimizer: Optimizer
    balance: bool = False
    keep_operands: bool = True
    keep_head: bool = False
    recompute: str = "blocks"
    prompt_chunk: int = 1
    seed: int = 0
    generates: bool = True
    image_rows: int = 0


@dataclass(frozen=True)
class Matrix:
    """A trainable matrix of an adapter in one layer.

    linear  the name of the linear that it belongs to
    matrix  which of the linear's matrices it is
    """

    layer: int
    linear: str
    matrix: str
    parameter: Parameter

    @property
    def name(self) -> str:
        """Its name in the functions of its block, which the layers of a kind share."""
        return matrix_name(self.linear, self.matrix)

    @property
    def state_name(self) -> str:
        """Its name in the state."""
        return f"layers.{self.layer}.{self.name}"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.parameter.shape


@dataclass(frozen=True)
class SideArrays:
    """Frozen arrays of one linear that lie in the bundle beside the codes of its weight.

    layer     its layer
    position  the place of its weight among the parameters of its block
    types     the arrays' types by name
    """

    layer: int
    position: int
    types: dict[str, Spec]


@dataclass(frozen=True)
class AdapterArrays(SideArrays):
    """Those of an adapter that are not trained. `adapter` is that of the linear."""

    adapter: Adapter


@dataclass
class KernelTable:
    """The kernels of a step by name: their plans, their recorded operators, their kinds."""

    plans: dict[str, KernelPlan] = field(default_factory=dict)
    traces: dict[str, Trace] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """Says in a step of training for which blocks the backward pass runs.

    function  is called before the forward pass
    output    its result, an int32 for each block. At 0 the block keeps its adapters as they are
    """

    function: str
    output: str


@dataclass
class Step:
    """A fine-tuning step on its way from a captured model to a plan.

    graph      the captured model: calls of `gsqc.models.model_ops`
    codes_of   gives the codes of the weights
    outline    embedding, kinds of blocks and head, from outline_blocks on
    functions  what the step consists of, by name, from lower_model on
    adapters   the trainable matrices of all layers, by name in the state, from add_adapters on
    adapter_of  the adapter of each linear that has one, by the linear's name, from add_adapters on
    choice     what chooses blocks for the backward pass. None: it runs for all
    adapter_arrays  the adapter's arrays that are not trained, from add_adapters on
    corrections  those of `--pass lorc`, which correct the base
    kernels    the compiled ops, from lower_functions on
    plan       what the runtime follows, from lower_functions on
    """

    graph: torch.fx.Graph
    codes_of: CodesOf
    options: StepOptions
    outline: Outline | None = None
    functions: dict[str, Function] = field(default_factory=dict)
    adapters: dict[str, Matrix] = field(default_factory=dict)
    adapter_of: dict[str, Adapter] = field(default_factory=dict)
    choice: Choice | None = None
    adapter_arrays: list[AdapterArrays] = field(default_factory=list)
    corrections: list[SideArrays] = field(default_factory=list)
    kernels: KernelTable = field(default_factory=KernelTable)
    plan: Plan = field(default_factory=Plan)

    @property
    def parts(self) -> Outline:
        """The outline, once there is one."""
        assert self.outline is not None, "outline_blocks comes first"
        return self.outline

    def add(self, *functions: Function) -> None:
        """Add functions under their names."""
        for function in functions:
            assert function.name not in self.functions, f"two functions {function.name}"
            self.functions[function.name] = function


Check = Callable[[Step], None]
"""An assertion about a step. Its message says where it does not hold."""


@dataclass(frozen=True)
class Property:
    """Something that holds of a step after some pass."""

    name: str
    check: Check


def step_property(name: str) -> Callable[[Check], Property]:
    """Decorator: a check becomes a property of that name."""
    return lambda check: Property(name, check)


@dataclass(frozen=True)
class Pass:
    """A step of compilation, with what must hold before it and what holds after it."""

    function: Callable[[Step], Step]
    requires: tuple[Property, ...]
    ensures: tuple[Property, ...]

    @property
    def name(self) -> str:
        """As in `--dump`, in docs and in tests."""
        return self.function.__name__

    def __call__(self, step: Step) -> Step:
        """Run it; an AssertionError names the property that does not hold."""
        # Required properties are checked again, though an earlier pass ensured them: a pass in
        # between may have broken them.
        for needed in self.requires:
            _check(step, needed, f"before {self.name}")
        step = self.function(step)
        for promised in self.ensures:
            _check(step, promised, f"after {self.name}")
        return step


def _check(step: Step, wanted: Property, when: str) -> None:
    try:
        wanted.check(step)
    except AssertionError as error:
        raise AssertionError(f"{when}, {wanted.name}: {error}") from error


def graph_pass(
    *, requires: tuple[Property, ...] = (), ensures: tuple[Property, ...]
) -> Callable[[Callable[[Step], Step]], Pass]:
    """Decorator: a function from a step to a step becomes a pass."""
    return lambda function: Pass(function, requires, ensures)
