# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that takes one operator from a target's lowering.

python -m pytest -p tests.mutations.lost_operator --lose llvm:clz tests/targets/test_support.py
"""

from __future__ import annotations

import pytest


def _lose_llvm(operator: str) -> None:
    from gsqc.targets.llvm import operators

    if operator in operators._SIMPLE:
        del operators._SIMPLE[operator]
    else:
        delattr(operators.Operators, f"_{operator}")


def _lose_cuda(operator: str) -> None:
    from gsqc.targets.cuda import expression

    del expression._FORMS[operator]


def _lose_tosa(operator: str) -> None:
    from gsqc.numerics.operators.trace import Operator
    from gsqc.targets.tosa.serialise import Writer
    from gsqc.targets.tosa.tosa_file import Tensor

    whole = Writer.operator

    def write(self: Writer, node: Operator) -> Tensor:
        if node.operator == operator:
            raise KeyError(operator)
        return whole(self, node)

    Writer.operator = write  # type: ignore[method-assign]


LOSE = {"llvm": _lose_llvm, "cuda": _lose_cuda, "tosa": _lose_tosa}
"""By the folder of the target. What arm_npu compiles is written by tosa."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option."""
    parser.addoption("--lose", metavar="FOLDER:OPERATOR", help="Take it from the lowering.")


def pytest_configure(config: pytest.Config) -> None:
    """Take the operator away before any test runs."""
    lost = config.getoption("--lose")
    if lost is not None:
        folder, _, operator = lost.partition(":")
        LOSE[folder](operator)
