# SPDX-License-Identifier: Apache-2.0
"""Every output of every configuration is the one in its golden files, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.runtime.session import Session
from tests.golden.configurations import CONFIGURATIONS
from tests.golden.files import EXPECTED, difference, expected_files
from tests.golden.record import PROGRAM, compile_bundle, facts_of_session, record

Files = dict[str, str]
ACCEPT = "If the change is meant, make golden accepts it. Commit the files with the change."
NAMES = pytest.mark.parametrize("name", CONFIGURATIONS)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Files]:
    """The files of a configuration as this tree gives them, made once."""
    made: dict[str, Files] = {}

    def files(name: str) -> Files:
        if name not in made:
            made[name] = record(CONFIGURATIONS[name], tmp_path_factory.mktemp(name))
        return made[name]

    return files


def programs(files: Files, wanted: bool) -> Files:
    """The lines about TOSA programs only, or all others."""
    return {
        name: "\n".join(line for line in text.splitlines() if line.startswith(PROGRAM) == wanted)
        for name, text in files.items()
    }


def compare(expected: Files, given: Files) -> None:
    changes = difference(expected, given)
    if changes:
        pytest.fail(f"{changes}\n\n{ACCEPT}", pytrace=False)


@NAMES
def test_bits(name: str, given: Callable[[str], Files]) -> None:
    """Digests, losses, tokens, operators, memory, weights, and the graph after each pass."""
    compare(programs(expected_files(name), False), programs(given(name), False))


@pytest.mark.skipif(
    find_spec("tosa_serializer") is None, reason="TOSA programs need pip install 'gsqc[npu]'"
)
@NAMES
def test_programs(name: str, given: Callable[[str], Files]) -> None:
    compare(programs(expected_files(name), True), programs(given(name), True))


@pytest.mark.slow
@NAMES
def test_compiled_code(name: str, tmp_path: Path) -> None:
    """What numpy gave for the file, compiled code gives too."""
    bundle = Bundle.open(compile_bundle(CONFIGURATIONS[name], tmp_path, code=True))
    lines = set(facts_of_session(Session(bundle)))
    missing = lines - set(expected_files(name)[f"{name}.txt"].splitlines())
    assert not missing


def test_no_file_is_left_over() -> None:
    """A file without a row in the table would be held to nothing."""
    known = {file for name in CONFIGURATIONS for file in expected_files(name)}
    found = {path.relative_to(EXPECTED).as_posix() for path in EXPECTED.rglob("*.txt")}
    assert found == known


def test_a_difference_is_shown() -> None:
    shown = difference({"a.txt": "one\ntwo\n", "b.txt": "x\n"}, {"a.txt": "one\n2\n", "c.txt": "y"})
    assert "--- golden/a.txt\n+++ now/a.txt\n" in shown
    assert "-two\n+2" in shown
    assert "-x" in shown
    assert "+y" in shown
    assert difference({"a.txt": "one\n"}, {"a.txt": "one\n"}) == ""
