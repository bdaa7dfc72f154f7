# SPDX-License-Identifier: Apache-2.0
"""Bundles that are broken or hostile: one line and exit code 2, from both runtimes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gsqc.bundle.files import code_folder
from gsqc.cli.main import main
from gsqc.targets import NATIVE, resolve_target
from tests.runner.steps import RATE, STEPS

pytestmark = pytest.mark.needs_target("llvm")
BASE, STATE = "base.safetensors", "state.safetensors"
CODE = code_folder(resolve_target(NATIVE)) + "kernels.so"
PLAN = "plan.json"
Change = Callable[[Path, dict[str, Any]], None]


def rewrite(root: Path, manifest: dict[str, Any], name: str, content: bytes) -> None:
    """Change a file and its hash: what an attacker would do."""
    (root / name).write_bytes(content)
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def header(change: Callable[[dict[str, Any]], None]) -> Change:
    """Change the header of the base."""

    def apply(root: Path, manifest: dict[str, Any]) -> None:
        content = (root / BASE).read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        entries = json.loads(content[8:end])
        change(entries[next(name for name in entries if entries[name]["dtype"] == "I32")])
        text = json.dumps(entries).encode()
        rewrite(root, manifest, BASE, len(text).to_bytes(8, "little") + text + content[end:])

    return apply


def first(table: dict[str, Any]) -> Any:
    return next(iter(table.values()))


def renamed(table: dict[str, Any], name: str) -> None:
    """Give the first entry another name."""
    table[name] = table.pop(next(iter(table)))


CASES: dict[str, tuple[Change, str]] = {
    "truncated": (
        lambda r, m: (r / BASE).write_bytes((r / BASE).read_bytes()[:-9]) and None,
        "its hash differs",
    ),
    "wrong hash": (lambda r, m: m["files"][CODE].update(sha256="0" * 64), "its hash differs"),
    "truncated, right hash": (
        lambda r, m: rewrite(r, m, BASE, (r / BASE).read_bytes()[:-9]),
        "leaves the file",
    ),
    "empty code": (lambda r, m: rewrite(r, m, CODE, b""), "cannot load"),
    "wrong shape": (header(lambda e: e.update(shape=[3, 5])), "leaves the file"),
    "offset outside": (
        header(lambda e: e.update(data_offsets=[2**40, 2**40 + 4])),
        "leaves the file",
    ),
    "huge shape": (header(lambda e: e.update(shape=[2**62, 2**62])), "valid number"),
    "huge product": (header(lambda e: e.update(shape=[2**40, 2**40])), "too large"),
    "negative shape": (header(lambda e: e.update(shape=[-1, -4])), "valid number"),
    "huge tensor": (
        lambda r, m: first(m["plan"]["buffers"]["prepared"]).__setitem__(1, 2**60),
        "malformed",
    ),
    "huge arena": (
        lambda r, m: first(m["plan"]["schedules"]).update(activation_bytes=2**39),
        "memory",
    ),
    "huge header": (lambda r, m: rewrite(r, m, STATE, b"\xff" * 64), "header is longer"),
    "base too small": (
        lambda r, m: first(m["plan"]["buffers"]["base"]).__setitem__(1, 10**6),
        "should have",
    ),
    "no train": (lambda r, m: m["plan"]["schedules"].pop("train"), "no schedule train"),
    "no loss": (lambda r, m: m["plan"]["buffers"]["output"].pop("loss"), "malformed"),
    "no base": (lambda r, m: m["files"].pop(BASE), f"has no {BASE}"),
    "another architecture": (
        lambda r, m: first(m["targets"]).update(triple="riscv64-linux-gnu"),
        "riscv64",
    ),
    "another CPU": (
        lambda r, m: first(m["targets"]).update(cpu_features=["warp-drive"]),
        "warp-drive",
    ),
    "kernel whose name is code": (
        lambda r, m: renamed(m["plan"]["kernels"], "x = 0; INPUT(/etc/passwd)"),
        "letters, digits",
    ),
    "kernel with the name of a copy": (
        lambda r, m: renamed(m["plan"]["kernels"], "@copy"),
        "letters, digits",
    ),
    "function whose name is a path": (
        lambda r, m: renamed(m["plan"]["functions"], "../../x"),
        "letters, digits",
    ),
    "kernel of another shape": (
        lambda r, m: first(m["plan"]["kernels"])["inputs"][0][2][0].__setitem__(0, [1]),
        "shape",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_both_runtimes_refuse(
    case: str,
    bundle: Path,
    data: Path,
    tokens: Path,
    sanitised: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "bad.gsqc"
    shutil.copytree(bundle, root)
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["plan"] = json.loads((root / PLAN).read_text())
    change, expected = CASES[case]
    change(root, manifest)
    rewrite(root, manifest, PLAN, json.dumps(manifest.pop("plan")).encode())
    (root / "manifest.json").write_text(json.dumps(manifest))
    command = [str(sanitised), str(root), "--tokens", str(tokens), "--run", str(tmp_path / "c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    run = ["--run", str(tmp_path / "p")]
    code = main(["train", str(root), "--data", str(data), "--steps", str(STEPS), *RATE, *run])
    for returned, text in ((done.returncode, done.stderr), (code, capsys.readouterr().err)):
        assert returned == 2, text
        assert text.startswith("error: ") and text.count("\n") == 1 and expected in text, text
