# SPDX-License-Identifier: Apache-2.0
"""Short names for building TIR: constants, vectors, loads, stores, loops."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from tvm import tirx
from tvm.ir import PointerType, PrimType
from tvm.target import codegen

Expr = Any
"""A TVM expression: TVM's Python classes carry no types."""
Stmt = Any
Buffer = Any


def const(value: int, dtype: str = "int32") -> Expr:
    """A scalar constant."""
    return tirx.const(value, dtype)


def vector_type(dtype: str, lanes: int) -> str:
    """The dtype of `lanes` elements."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def splat(value: Expr, lanes: int) -> Expr:
    """A scalar in all lanes."""
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def splat_const(value: int, lanes: int, dtype: str = "int32") -> Expr:
    """A constant in all lanes."""
    return splat(const(value, dtype), lanes)


def lanes_at(start: Expr, lanes: int) -> Expr:
    """The indices of `lanes` consecutive elements."""
    return start if lanes == 1 else tirx.Ramp(start, const(1), lanes)


def load(buffer: Buffer, start: Expr, lanes: int = 1) -> Expr:
    """`lanes` consecutive elements of a flat buffer."""
    return tirx.BufferLoad(buffer, [lanes_at(start, lanes)])


def store(buffer: Buffer, start: Expr, value: Expr, lanes: int = 1) -> Stmt:
    """Store `lanes` consecutive elements."""
    return tirx.BufferStore(buffer, value, [lanes_at(start, lanes)])


def new_buffer(name: str, count: int, dtype: str) -> Buffer:
    """A flat buffer: a parameter, or local memory after `allocate`."""
    return tirx.decl_buffer((count,), dtype, name)


def allocate(buffer: Buffer) -> Stmt:
    """Local memory for the statements that follow.

    TVM puts up to 1 KiB on the stack, and takes more from the runtime's workspace.
    """
    return tirx.AllocBuffer(buffer)


def new_var(name: str, dtype: str = "int32") -> Expr:
    """A variable, which a loop or a bind defines."""
    return tirx.Var(name, dtype)


def bind(name: str, value: Expr) -> tuple[Expr, Stmt]:
    """A name for a value: the variable, and the statement that defines it from there on.

    For few and simple values. Where many build on each other, use `keep`.
    """
    variable = tirx.Var(name, value.ty)
    return variable, tirx.Bind(variable, value)


def sequence(statements: Sequence[Stmt]) -> Stmt:
    """The statements as one."""
    assert statements
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def loop(
    variable: Expr,
    extent: int | Expr,
    body: Sequence[Stmt],
    *,
    start: int | Expr = 0,
    parallel: bool = False,
) -> Stmt:
    """For variable in [start, start + extent). The threads of the pool share it if parallel."""
    kind = tirx.ForKind.PARALLEL if parallel else tirx.ForKind.SERIAL
    first, count = (const(v) if isinstance(v, int) else v for v in (start, extent))
    return tirx.For(variable, first, count, kind, sequence(body))


def when(condition: Expr, body: Sequence[Stmt]) -> Stmt:
    """The body, if the condition holds."""
    return tirx.IfThenElse(condition, sequence(body), None)


# TVM wants LLVM's number of an intrinsic, and searches a long list for it.
@cache
def _intrinsic_id(name: str) -> int:
    return int(codegen.llvm_lookup_intrinsic_id(name))


def intrinsic(dtype: str, name: str, *args: Expr) -> Expr:
    """A call of an LLVM intrinsic without side effects."""
    return tirx.call_llvm_pure_intrin(dtype, const(_intrinsic_id(name), "uint32"), *args)


def keep(name: str, value: Expr) -> tuple[Expr, list[Stmt]]:
    """A value kept in a small local buffer: how to read it, and the statements.

    LLVM turns the buffer into a register. `bind` would give the value a name, too. But TVM's
    simplifier substitutes variables by their definitions, in time that doubles with each one that
    is used twice. A row program or a transpose has hundreds.
    """
    element, _, lanes = str(value.ty.dtype).partition("x")
    buffer = new_buffer(name, int(lanes or 1), element)
    return load(buffer, const(0), int(lanes or 1)), [
        allocate(buffer),
        store(buffer, const(0), value, int(lanes or 1)),
    ]


def external_pointer(function: str, dtype: str) -> Expr:
    """The pointer that a C function without parameters returns."""
    return tirx.call_extern(PointerType(PrimType(dtype)), function)


def function(symbol: str, parameters: Sequence[Buffer], body: Sequence[Stmt]) -> Any:
    """A kernel: flat buffers that do not overlap."""
    # noalias lets LLVM move loads of one buffer past stores to another.
    f = tirx.PrimFunc(list(parameters), sequence(body))
    return f.with_attr("global_symbol", symbol).with_attr("tirx.noalias", True)


def row_chunks(
    rows: int, body: Sequence[Stmt], row: Expr, setup: Sequence[Stmt], parallel: bool
) -> Stmt:
    """Run `body` for every row; if parallel, in chunks of rows, each with `setup` before it."""
    if not parallel:
        return sequence([*setup, loop(row, rows, body)])
    # The memory of a row is the thread's own, so it is allocated inside the parallel loop. A chunk
    # does that once for all of its rows. 32 of them keep many threads busy, however they divide.
    chunks = min(rows, 32)
    chunk = new_var("chunk")
    first = tirx.truncdiv(chunk * const(rows), const(chunks))
    end = tirx.truncdiv((chunk + const(1)) * const(rows), const(chunks))
    return loop(chunk, chunks, [*setup, loop(row, end - first, body, start=first)], parallel=True)
