# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that makes a pass do nothing, as if someone had emptied its function.

    python -m pytest -p tests.mutations.idle_pass --idle-pass share_repeated tests/passes

With `--unchecked` no pass checks what it requires and ensures. What fails then are the tests that
look at results.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options."""
    parser.addoption("--idle-pass", metavar="NAME", help="Make this pass of PIPELINE do nothing.")
    parser.addoption("--unchecked", action="store_true", help="Check no property of a pass.")


def pytest_configure(config: pytest.Config) -> None:
    """Change the passes themselves: every list and every test that holds them sees it."""
    # Imported here: the plugin is loaded before pytest rewrites the asserts of what it imports.
    from gsqc.compiler.pipeline import PIPELINE
    from gsqc.passes.step import Step

    def idle(step: Step) -> Step:
        return step

    name = config.getoption("--idle-pass")
    if name is not None:
        passes = {one.name: one for one in PIPELINE}
        if name not in passes:
            raise pytest.UsageError(f"no pass {name}; one of: {', '.join(passes)}")
        idle.__name__ = name
        object.__setattr__(passes[name], "function", idle)
    if config.getoption("--unchecked"):
        for checked in {
            id(p): p for one in PIPELINE for p in (*one.requires, *one.ensures)
        }.values():
            object.__setattr__(checked, "check", lambda step: None)
