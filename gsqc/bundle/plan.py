# SPDX-License-Identifier: Apache-2.0
"""The plan of a step: which kernels run in which order on which memory. The compiler writes it, and
the runtime follows it.

kernel     one op on given shapes
function   kernel calls on its ports and its scratch memory (block_forward, head_backward, …)
schedule   function calls that bind ports to buffers. It calls the function of a block once a layer.
reference  a part of a named tensor. Tensors are flat.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from gsqc.numerics.formats import Gse, Row, Spec, Value, field_names, flatten

COPY = "@copy"
"""An entry of a schedule that copies the tensor `source` to `target`. It is no function."""

ALIGNMENT = 64
"""Of every tensor in memory, in bytes."""
ITEM_BYTES = {"int8": 1, "int16": 2, "int32": 4}
BUFFER_KINDS = ("base", "prepared", "state", "gradient", "cache", "input", "output")
VALUE_TENSORS = {"tensor": 1, "row": 2, "gse": 3}
"""How many tensors a kernel's input has, by its kind."""
MAXIMUM_BITS = 64
MAXIMUM_ARGUMENTS = 64
"""How many tensors a kernel takes and gives."""
MAXIMUM_COUNT = 2**40
"""Elements of a tensor, or bytes of a region. No machine has as many, and sums stay below 2^64."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The elements [offset, offset + count) of the named tensor."""

    name: str
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """A flat tensor.

    dtype   a name of ITEM_BYTES
    count   its number of elements
    offset  in bytes in its region, or -1 for what has no region: a port or a buffer
    """

    dtype: str
    count: int
    offset: int = -1

    @property
    def size_bytes(self) -> int:
        """What the tensor takes in memory, in bytes."""
        return self.count * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class KernelPlan:
    """An op on given shapes: what it takes to run the op's function in numpy.

    attributes  of the op, as JSON data
    inputs      its values as `encode_value` writes them
    operators   how many operators of each kind its program has
    """

    op: str
    attributes: dict[str, Any]
    inputs: list[Any]
    operators: dict[str, int]

    def call(self) -> tuple[list[Value], dict[str, Any]]:
        """The specs of the op's values, and its attributes.

        JSON makes lists of tuples. Here they are tuples again.
        """
        return [decode_value(v) for v in self.inputs], {
            k: _freeze(v) for k, v in self.attributes.items()
        }


def _freeze(value: Any) -> Any:
    return tuple(_freeze(v) for v in value) if isinstance(value, list) else value


@dataclass
class FunctionPlan:
    """Kernel calls on ports and scratch tensors.

    ports    tensors that a schedule binds
    scratch  tensors at fixed offsets of the scratch region, which has `scratch_bytes`
    calls    (kernel, its arguments), in order
    """

    ports: dict[str, TensorPlan] = field(default_factory=dict)
    scratch: dict[str, TensorPlan] = field(default_factory=dict)
    scratch_bytes: int = 0
    calls: list[tuple[str, list[Reference]]] = field(default_factory=list)


@dataclass
class SchedulePlan:
    """Function calls, and the activations that live between them.

    activations  tensors at fixed offsets of a region of `activation_bytes`
    calls        (function, what each of its ports is bound to), in order
    guards       by the number of a call: an int32 of an input or output. If it is 0, no call
    """

    activations: dict[str, TensorPlan] = field(default_factory=dict)
    activation_bytes: int = 0
    calls: list[tuple[str, dict[str, Reference]]] = field(default_factory=list)
    guards: dict[int, Reference] = field(default_factory=dict)


@dataclass
class Plan:
    """Everything that a runtime follows.

    buffers  the tensors outside the arena, by the kinds of BUFFER_KINDS:

    base      frozen codes, from base.safetensors
    prepared  what is computed from them when a session starts
    state     what is trained and saved
    gradient  sums of a step of several sequences or with clipping, zeroed before the step
    cache     keys and values of earlier tokens, in generation
    input     what each step is given
    output    what each step gives
    """

    kernels: dict[str, KernelPlan] = field(default_factory=dict)
    functions: dict[str, FunctionPlan] = field(default_factory=dict)
    schedules: dict[str, SchedulePlan] = field(default_factory=dict)
    buffers: dict[str, dict[str, TensorPlan]] = field(default_factory=dict)

    def scratch_bytes(self, schedule: str) -> int:
        """The scratch memory of the largest function that a schedule calls, in bytes.

        It lies at the start of the arena, and the schedule's activations lie behind it.
        """
        called = {name for name, _ in self.schedules[schedule].calls if name != COPY}
        return align(max((self.functions[name].scratch_bytes for name in called), default=0))

    @property
    def arena_bytes(self) -> int:
        """The memory that the schedules share, in bytes."""
        return max(
            (self.scratch_bytes(name) + s.activation_bytes for name, s in self.schedules.items()),
            default=0,
        )

    def buffer_bytes(self, *kinds: str) -> int:
        """The memory of all buffers of these kinds, in bytes."""
        return sum(t.size_bytes for kind in kinds for t in self.buffers.get(kind, {}).values())

    @property
    def peak_bytes(self) -> int:
        """What a session holds: arena, prepared operands, state, inputs and outputs, in bytes.

        The sums of "gradient" are left out.
        """
        return self.arena_bytes + self.buffer_bytes("prepared", "state", "input", "output")

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON data. References are [name, offset, count]."""
        return {
            "kernels": {k: asdict(v) for k, v in self.kernels.items()},
            "functions": {
                name: {
                    "ports": _tensors_to_json(f.ports),
                    "scratch": _tensors_to_json(f.scratch),
                    "scratch_bytes": f.scratch_bytes,
                    "calls": [[k, list(map(_reference_to_json, args))] for k, args in f.calls],
                }
                for name, f in self.functions.items()
            },
            "schedules": {
                name: {
                    "activations": _tensors_to_json(s.activations),
                    "activation_bytes": s.activation_bytes,
                    "calls": [_call_to_json(s, k) for k in range(len(s.calls))],
                }
                for name, s in self.schedules.items()
            },
            "buffers": {k: _tensors_to_json(self.buffers.get(k, {})) for k in BUFFER_KINDS},
        }


def align(size: int) -> int:
    """A size in bytes, rounded up to a multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _tensors_to_json(tensors: dict[str, TensorPlan]) -> dict[str, list[Any]]:
    return {name: [t.dtype, t.count, t.offset] for name, t in tensors.items()}


def _reference_to_json(reference: Reference) -> list[Any]:
    return [reference.name, reference.offset, reference.count]


def _call_to_json(schedule: SchedulePlan, number: int) -> list[Any]:
    """[function, bindings], and the guard behind them if there is one."""
    name, bindings = schedule.calls[number]
    call = [name, {port: _reference_to_json(r) for port, r in bindings.items()}]
    guard = schedule.guards.get(number)
    return call if guard is None else [*call, _reference_to_json(guard)]


def element_count(shape: list[Any]) -> int:
    """The number of elements of a stranger's shape. ValueError if it is no shape, or too large."""
    count = 1
    for size in shape:
        if type(size) is not int or not 0 <= size <= MAXIMUM_COUNT:
            raise ValueError("a shape is no valid number")
        count *= size
        if count > MAXIMUM_COUNT:
            raise ValueError("a shape is too large")
    return count


# --------------------------------------------------------------------------------------------------
# values


def encode_value(value: Value) -> list[Any]:
    """A value of Spec as JSON data: ["row", bits, [[shape, dtype], …]]."""
    kind = {Row: "row", Gse: "gse"}.get(type(value), "tensor")
    bits = getattr(value, "bits", 0)
    return [kind, bits, [[list(t.shape), t.dtype] for t in flatten(value)]]


def decode_value(data: list[Any]) -> Value:
    """The value of Spec that `encode_value` wrote."""
    kind, bits, tensors = data
    specs = [Spec(tuple(shape), dtype) for shape, dtype in tensors]
    if kind == "row":
        return Row(specs[0], specs[1], bits)
    if kind == "gse":
        return Gse(specs[0], specs[1], specs[2], bits)
    return specs[0]


def tensor_names(name: str, value: Value) -> list[str]:
    """The names of a value's tensors: x.m and x.e for a Row x, x for a bare tensor."""
    return [f"{name}.{field}" if field else name for field in field_names(value)]
