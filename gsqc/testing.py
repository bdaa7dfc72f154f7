# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that holds bundles to known bits.

In the conftest.py beside pytest's settings:

    pytest_plugins = ["gsqc.testing"]

In a test:

    def test_bits(gsqc_golden):
        gsqc_golden("smol.gsqc", "golden/smol.json")

`pytest --gsqc-update-golden` writes the files. gsqc itself does not need pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gsqc.check.check import CheckResult, run_check
from gsqc.errors import GsqcError, system_errors
from gsqc.values import as_path

UPDATE = "--gsqc-update-golden"
Place = str | Path


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes golden files."""
    parser.getgroup("gsqc").addoption(
        UPDATE,
        action="store_true",
        help="write the digests of bundles to their golden files, in place of comparing",
    )


@pytest.fixture
def gsqc_golden(request: pytest.FixtureRequest) -> Callable[..., CheckResult]:
    """A function that steps a bundle and fails the test unless its digests are those of a file."""
    update = bool(request.config.getoption(UPDATE))

    def check(
        bundle: Place,
        golden: Place,
        *,
        on: Sequence[str] = ("native",),
        steps: int = 3,
        seed: int = 0,
        threads: int | None = None,
    ) -> CheckResult:
        """Step `bundle` on each target of `on`, and compare the digests with the file `golden`.

        The digests that the bundle carries are compared too. The test fails if one differs,
        and if a target cannot run.
        """
        try:
            with system_errors():
                result = run_check(
                    as_path("bundle", bundle),
                    [on] if isinstance(on, str) else list(on),
                    steps,
                    seed=seed,
                    threads=threads,
                    golden=as_path("golden", golden),
                    update=update,
                )
        except GsqcError as error:
            pytest.fail(f"{error}; {_hint(error)}", pytrace=False)
        if not result.passed:
            pytest.fail("\n".join(_problems(result)), pytrace=False)
        return result

    return check


def _hint(error: GsqcError) -> str:
    """What to do next, in pytest's terms."""
    return error.hint.replace("gsqc check BUNDLE --golden FILE --update", f"pytest {UPDATE}")


def _problems(result: CheckResult) -> list[str]:
    """A line for each reason why a check did not pass."""
    lines = [f"{target} did not run: {reason}" for target, reason in result.not_run.items()]
    found = result.first_difference
    if found is not None:
        lines.append(
            f"step {found['step']}: {found['tensor']}[{found['index']}] is {found['values']}"
        )
    differences = ((c.difference, c.source) for c in result.golden)
    return lines + [d.text(source) for d, source in differences if d is not None]
