# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin, in a run of pytest of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gsqc.check import steppers
from gsqc.errors import TargetError
from tests.runtime.small_bundle import FakeSession, write_bundle

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A user's project: a bundle, a conftest.py and a test."""
    monkeypatch.setattr(steppers, "Session", FakeSession)
    write_bundle(pytester.path / "small.gsqc")
    pytester.makeconftest('pytest_plugins = ["gsqc.testing"]')
    pytester.makepyfile(
        """
        def test_bits(gsqc_golden):
            result = gsqc_golden("small.gsqc", "golden/small.json", on=["numpy", "native"], steps=2)
            assert len(result.targets["numpy"]) == 2
        """
    )
    return pytester


def golden(project: pytest.Pytester) -> Path:
    return project.path / "golden" / "small.json"


def test_write_then_compare(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*there is no file*; write it with pytest --gsqc-update-golden"])
    project.runpytest_inprocess("--gsqc-update-golden").assert_outcomes(passed=1)
    assert len(json.loads(golden(project).read_text())["steps"]) == 2
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_difference_fails(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    project.runpytest_inprocess("--gsqc-update-golden").assert_outcomes(passed=1)
    monkeypatch.setattr(FakeSession, "wrong_target", "native")
    for arguments in ([], ["--gsqc-update-golden"]):
        before = golden(project).read_text()
        result = project.runpytest_inprocess(*arguments)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["step 2: layers.0.q_a*5* is *"])
        assert golden(project).read_text() == before
    monkeypatch.setattr(FakeSession, "wrong_target", None)
    content = json.loads(golden(project).read_text())
    content["steps"][0] = "0" * 64
    golden(project).write_text(json.dumps(content))
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["step 1 on numpy: * says 0000000000000000. *"])


def test_a_target_that_cannot_run_fails(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that did not run was not held to anything."""
    project.runpytest_inprocess("--gsqc-update-golden").assert_outcomes(passed=1)

    def refuse(*_: object) -> None:
        raise TargetError("no such CPU here", "use another machine")

    monkeypatch.setattr(steppers, "SessionStepper", refuse)
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["native did not run: no such CPU here; use another machine"])
