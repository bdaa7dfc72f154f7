# SPDX-License-Identifier: Apache-2.0
"""Runs a command of gsqc in this process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gsqc.cli.main import main

Capture = pytest.CaptureFixture[str]


def run_json(capsys: Capture, *arguments: object) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the JSON lines. With --json a command prints nothing else."""
    code = main([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, [json.loads(line) for line in captured.out.splitlines()]


def run_text(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    code = main([*map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
