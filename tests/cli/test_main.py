# SPDX-License-Identifier: Apache-2.0
"""The program as a whole: help, version, errors in one line, and what a command may import."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from gsqc.cli.app import COMMANDS
from gsqc.version import __version__
from tests.cli.run_command import Capture, run_json, run_text


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "absent.gsqc"],
        ["inspect"],
        ["inspect", "a", "b"],
        ["inspect", "a", "--unknown"],
        ["check", "absent.gsqc", "--steps", "0"],
        ["check", "absent.gsqc", "--steps", "x"],
        ["generate", "absent.gsqc", "--prompt", "a", "--temperature", "hot"],
        ["frobnicate"],
    ],
)
def test_an_error_is_one_line(capsys: Capture, arguments: list[str]) -> None:
    code, out, err = run_text(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    code, (line,) = run_json(capsys, *arguments)
    assert code == 2
    assert set(line) == {"error", "hint"}


def test_help_lists_the_commands_below_headings(capsys: Capture) -> None:
    code, text, _ = run_text(capsys, "--help")
    assert code == 0
    for heading, commands in COMMANDS.items():
        assert f" {heading} " in text
        for name in commands:
            assert re.search(rf"^│ {name} ", text, re.MULTILINE), name
    assert "--bits" in run_text(capsys, "compile", "--help")[1]


def test_version(capsys: Capture) -> None:
    assert run_text(capsys, "--version") == (0, f"gsqc {__version__}\n", "")


def test_a_runtime_command_does_not_import_torch() -> None:
    """It does not even if torch is installed, and torch can still be imported afterwards."""
    pytest.importorskip("torch")
    program = (
        "import sys; from gsqc.cli.main import main;"
        "assert main(['eval', 'absent.gsqc', '--data', 'x']) == 2;"
        "assert not {'torch', 'tvm', 'tvm_ffi'} & set(sys.modules);"
        "import importlib.util; assert importlib.util.find_spec('torch')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_runtime_needs_neither_torch_nor_the_compiler() -> None:
    """Nothing fails in a fresh process that cannot import them."""
    program = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'tvm', 'transformers', 'gguf'));"
        "import gsqc.runtime, gsqc.targets.numpy.kernels; from gsqc.cli.main import main;"
        "assert main(['targets', '--ops']) == 0; assert main(['train', '--help']) == 0;"
        "sys.exit(main(['compile', 'x', '-o', 'x.gsqc']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "the compiler is not installed" in done.stderr
    assert "Traceback" not in done.stderr
