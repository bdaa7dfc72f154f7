# SPDX-License-Identifier: Apache-2.0
"""Lookup tables of kernels: constant data of the library.

TIR cannot name data of another object. So a table is written in C, with a function that returns its
address, and a kernel calls that once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tvm import tirx

from gsqc.numerics.operators.trace import Trace
from gsqc.targets.analysis.table_data import c_initialiser, table_symbol
from gsqc.targets.llvm.emit import Buffer, Expr, Stmt, bind, external_pointer, new_buffer

TABLE_DTYPE = "int32"


class Tables:
    """The tables of one kernel. `setup` is what must come before their first use."""

    def __init__(self) -> None:
        """No tables yet."""
        self.setup: list[Stmt] = []
        self._known: dict[str, tuple[Expr, Buffer]] = {}

    def use(self, entries: Sequence[int]) -> tuple[Expr, Buffer]:
        """The table's pointer, and the same memory as a buffer of 512 int32."""
        symbol = table_symbol(entries)
        if symbol not in self._known:
            pointer, statement = bind(symbol, external_pointer(symbol, TABLE_DTYPE))
            buffer = new_buffer(f"{symbol}_data", len(entries) - 1, TABLE_DTYPE)
            self.setup += [statement, tirx.DeclBuffer(buffer, data=pointer)]
            self._known[symbol] = pointer, buffer
        return self._known[symbol]


def tables_source(traces: Iterable[Trace]) -> str:
    """C source with the data and one function for each table that the traces look up."""
    lookups = (n for trace in traces for n in trace.live_nodes() if n.operator == "table")
    tables = {table_symbol(n.attributes["entries"]): n.attributes["entries"] for n in lookups}
    # Hidden, so that the linker takes the tables of this library and no other's. Aligned, so that a
    # table begins with a cache line.
    parts = ["#include <stdint.h>\n"]
    for symbol, entries in sorted(tables.items()):
        values = c_initialiser(entries)
        parts.append(
            f"static const int32_t {symbol}_data[] __attribute__((aligned(64))) = {values};\n"
        )
        hidden = '__attribute__((visibility("hidden")))'
        function = f"const int32_t* {symbol}(void) {{ return {symbol}_data; }}"
        parts.append(f"{hidden} {function}\n")
    return "".join(parts)
