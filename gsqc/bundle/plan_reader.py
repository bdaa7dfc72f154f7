# SPDX-License-Identifier: Apache-2.0
"""A plan from a stranger's JSON: each value must be of its type. runner/plan.c reads the same."""

from __future__ import annotations

import sys
from typing import Any

from gsqc.bundle.plan import (
    BUFFER_KINDS,
    ITEM_BYTES,
    MAXIMUM_BITS,
    MAXIMUM_COUNT,
    VALUE_TENSORS,
    FunctionPlan,
    KernelPlan,
    Plan,
    Reference,
    SchedulePlan,
    TensorPlan,
    element_count,
)
from gsqc.bundle.plan_checks import check_plan
from gsqc.errors import BundleError


def read_plan(data: Any) -> Plan:
    """The plan of JSON data. Raises BundleError if a session cannot follow it."""
    try:
        buffers = _object(_object(data, "plan").get("buffers"), "buffers")
        if set(buffers) != set(BUFFER_KINDS):
            raise ValueError(f"its buffers are not {', '.join(BUFFER_KINDS)}")
        plan = Plan(
            {name: _kernel(v) for name, v in _object(data.get("kernels"), "kernels").items()},
            {name: _function(v) for name, v in _object(data.get("functions"), "functions").items()},
            {name: _schedule(v) for name, v in _object(data.get("schedules"), "schedules").items()},
            {kind: _tensors(tensors, placed=False) for kind, tensors in buffers.items()},
        )
    except ValueError as error:
        raise BundleError(
            f"the bundle's plan is malformed ({error})", "compile the model again"
        ) from None
    check_plan(plan)
    return plan


def _object(data: Any, what: str) -> dict[str, Any]:
    if type(data) is not dict or any("\0" in name for name in data):
        raise ValueError(f"{what} is no object")
    return data


def _list(data: Any, what: str, length: int | None = None) -> list[Any]:
    if type(data) is not list or length not in (None, len(data)):
        raise ValueError(f"{what} is no list" + (f" of {length}" if length else ""))
    return data


def _text(data: Any, what: str) -> str:
    if type(data) is not str or "\0" in data:
        raise ValueError(f"{what} is no text")
    return sys.intern(data)  # a name occurs in many calls


def _count(data: Any, what: str, most: int = MAXIMUM_COUNT) -> int:
    if type(data) is not int or not 0 <= data <= most:
        raise ValueError(f"{what} is no valid number")
    return data


def _dtype(data: Any) -> str:
    if type(data) is not str or data not in ITEM_BYTES:
        raise ValueError("a tensor has no known type")
    return data


def _tensors(data: Any, *, placed: bool) -> dict[str, TensorPlan]:
    """Tensors by name, each [dtype, count, offset]. The offset is -1 unless they are `placed`."""
    tensors = {}
    for name, entry in _object(data, "a table of tensors").items():
        dtype, count, offset = _list(entry, name, 3)
        if placed:
            _count(offset, name)
        elif type(offset) is not int or offset != -1:
            raise ValueError(f"{name} has a place of its own")
        tensors[sys.intern(name)] = TensorPlan(_dtype(dtype), _count(count, name), offset)
    return tensors


def _reference(data: Any) -> Reference:
    if type(data) is not list or len(data) != 3:
        raise ValueError("a reference is not [name, offset, count]")
    name, offset, count = data
    return Reference(
        _text(name, "a reference's name"), _count(offset, "an offset"), _count(count, "a count")
    )


def _input(data: Any) -> list[Any]:
    """A kernel's input: [kind, bits, [[shape, dtype], …]]."""
    kind, bits, tensors = _list(data, "a kernel's input", 3)
    number = VALUE_TENSORS.get(_text(kind, "a kind"))
    _count(bits, "a width", MAXIMUM_BITS)
    if number is None or len(_list(tensors, "an input's tensors")) != number:
        raise ValueError("a kernel's input is of no known kind")
    for tensor in tensors:
        shape, dtype = _list(tensor, "a kernel's tensor", 2)
        _dtype(dtype)
        element_count(_list(shape, "a kernel's shape"))
    return [kind, bits, tensors]


def _kernel(data: Any) -> KernelPlan:
    entry = _object(data, "a kernel")
    operators = _object(entry.get("operators"), "a kernel's operators")
    return KernelPlan(
        _text(entry.get("op"), "a kernel's op"),
        _object(entry.get("attributes"), "a kernel's attributes"),
        [_input(v) for v in _list(entry.get("inputs"), "a kernel's inputs")],
        {name: _count(n, "a number of operators") for name, n in operators.items()},
    )


def _function(data: Any) -> FunctionPlan:
    entry = _object(data, "a function")
    calls = []
    for call in _list(entry.get("calls"), "a function's calls"):
        name, references = _list(call, "a call", 2)
        arguments = [_reference(r) for r in _list(references, "a call's arguments")]
        calls.append((_text(name, "a kernel's name"), arguments))
    return FunctionPlan(
        _tensors(entry.get("ports"), placed=False),
        _tensors(entry.get("scratch"), placed=True),
        _count(entry.get("scratch_bytes"), "scratch_bytes"),
        calls,
    )


def _schedule(data: Any) -> SchedulePlan:
    entry = _object(data, "a schedule")
    calls = []
    guards: dict[int, Reference] = {}
    for number, call in enumerate(_list(entry.get("calls"), "a schedule's calls")):
        if len(_list(call, "a call")) not in (2, 3):
            raise ValueError("a call is no list of 2 or 3")
        name, bindings, *guard = call
        bound = {p: _reference(r) for p, r in _object(bindings, "a call's bindings").items()}
        calls.append((_text(name, "a function's name"), bound))
        if guard:
            guards[number] = _reference(guard[0])
    return SchedulePlan(
        _tensors(entry.get("activations"), placed=True),
        _count(entry.get("activation_bytes"), "activation_bytes"),
        calls,
        guards,
    )
