# SPDX-License-Identifier: Apache-2.0
"""Names and options of the NPUs: what is refused says what to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from gsqc.cli.main import main
from gsqc.compiler.options import CompileOptions
from gsqc.errors import OptionError, TargetError
from gsqc.targets import resolve_target
from gsqc.targets.arm_npu import vela
from gsqc.targets.arm_npu.accelerators import NpuOptions, npu_options, parse_accelerator


def test_names() -> None:
    assert (
        resolve_target("arm-npu")
        == resolve_target("arm-npu:ethos-u85-256")
        == "arm-npu:ethos-u85-256"
    )
    assert parse_accelerator("arm-npu:ethos-u85-2048") == "ethos-u85-2048"
    for small in ("ethos-u55-128", "ethos-u65-512"):
        with pytest.raises(
            TargetError, match=r"cannot run a training step: it has no .*GATHER.*SELECT"
        ):
            parse_accelerator(f"arm-npu:{small}")
    for wrong in ("arm-npu:ethos-u99", "arm-npu:256", "arm-npu2"):
        with pytest.raises(TargetError, match="unknown accelerator"):
            parse_accelerator(wrong)


def test_options() -> None:
    given = npu_options("arm-npu:ethos-u85-512", {"npu_memory": "Sram_Only", "sram_kib": 512})
    assert given == NpuOptions("ethos-u85-512", memory_mode="Sram_Only", sram_kib=512)
    assert given.arguments()[-2:] == ["--arena-cache-size", "524288"]
    for target, changes, said in (
        ("numpy", {"sram_kib": 5}, "numpy takes no --sram-kib"),
        ("arm-npu", {"sram_kib": 0}, "--sram-kib 0 is not a whole number"),
        ("arm-npu", {"npu_config": Path("no-such.ini")}, "no such file"),
        ("arm-npu", {"sram": 5}, "has no option sram"),
    ):
        with pytest.raises(OptionError, match=said):
            CompileOptions(Path("x"), target, target_options=changes)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("arm-npu:ethos-u55-128", "use arm-npu:ethos-u85-256"),
        ("arm-npu:ethos-u99", "arm-npu:ethos-u85-128, arm-npu:ethos-u85-256"),
    ],
)
def test_the_command_line_says_it_in_one_line(
    target: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", "anything", "-o", "x.gsqc", "--target", target]) == 2
    printed = capsys.readouterr().err
    assert said in printed and len(printed.splitlines()) == 1


def test_a_missing_compiler_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vela, "tools_installed", lambda module: module != "ethosu")
    assert main(["compile", "anything", "-o", str(tmp_path / "x.gsqc"), "--target", "arm-npu"]) == 2
    printed = capsys.readouterr().err
    assert (
        printed
        == "error: the NPU's compiler is not installed: ethos-u-vela; pip install 'gsqc[npu]'\n"
    )
