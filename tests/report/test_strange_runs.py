# SPDX-License-Identifier: Apache-2.0
"""A run of a stranger harms no report: odd files are refused by name, odd values are left out."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from gsqc.cli.main import main
from tests.cli.run_command import Capture
from tests.report.test_run_page import Tags, entry, write_run
from tests.runtime.small_bundle import write_bundle


def test_files_of_a_run_are_plain_files(tmp_path: Path, capsys: Capture) -> None:
    """A FIFO would be waited for, a link may lead anywhere, and a log may have no end."""
    whole = write_run(tmp_path / "whole", [entry(1)], {"lr": "1e-3"})
    endless, fifo, linked = (tmp_path / name for name in ("endless", "fifo", "linked"))
    write_run(endless, [entry(1)])
    os.truncate(endless / "log.jsonl", 1 << 40)
    write_run(fifo, [entry(1)])
    os.mkfifo(fifo / "config.json")
    linked.mkdir()
    (linked / "log.jsonl").symlink_to(whole / "log.jsonl")
    for run, why in ((endless, "more than 1024 MiB"), (fifo, "it is a FIFO"), (linked, "a link")):
        for command in (["report", str(run)], ["compare", str(run), str(whole)]):
            assert main(command) == 2
            error = capsys.readouterr().err
            assert why in error and str(run) in error and error.count("\n") == 1


ODD: list[Any] = [
    *(None, True, -1, 2**70, 1e308, -1e308, 1e-320, math.nan, math.inf, -0.0, 1e14, 1e-30),
    *("", "\0", "\ud800", "a" * 5000, [], [[1]], {}, {"a": []}, "/dev/zero", "/etc"),
]


def test_odd_values_in_every_field(tmp_path: Path, capsys: Capture) -> None:
    names = [*entry(1, validation_loss=1.0, best=True, learning_rate=1e-3, gradient_norm=1.0)]
    names += ["peak_rss_bytes", "validation_tokens"]
    settings = ("bundle_path", "bundle", "lr", "data", "steps", "")
    bundle = write_bundle(tmp_path / "small.gsqc")
    for k, odd in enumerate(ODD):
        config = {"bundle_path": str(bundle), "steps": 3} | dict.fromkeys(settings[k % 6 :], odd)
        lines = [entry(1), *(entry(n) | {name: odd} for n, name in enumerate(names, 2))]
        lines += [entry(90) | dict.fromkeys(names[1:], odd), "[" * 100_000 + "\n"]
        run = write_run(tmp_path / f"run{k}", lines, config)
        assert main(["report", str(run)]) == 0, odd
        assert main(["compare", str(run), str(run), "--json"]) == 0, odd
        Tags((run / "report.html").read_text())
        lines_only = write_run(tmp_path / f"odd{k}", [entry(1) | dict.fromkeys(names[1:], odd)])
        assert main(["report", str(lines_only)]) == 0, odd
    assert "Traceback" not in capsys.readouterr().err
