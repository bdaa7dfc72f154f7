# SPDX-License-Identifier: Apache-2.0
"""The table of ops and targets: a lowering that is lost changes it, and so does an op that is
added.
"""

from __future__ import annotations

from typing import Any

from gsqc.targets import TARGETS, op_support


def test_support(file_regression: Any) -> None:
    support = op_support()
    width = max(map(len, support))
    lines = [f"{'op':{width}}  {'  '.join(f'{t:20}' for t in TARGETS)}".rstrip()]
    for op, targets in support.items():
        lines.append(f"{op:{width}}  {'  '.join(f'{targets[t]:20}' for t in TARGETS)}".rstrip())
    file_regression.check("\n".join(lines) + "\n", basename="support")
