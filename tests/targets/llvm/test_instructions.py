# SPDX-License-Identifier: Apache-2.0
"""A target's matmul is made of the instruction that it is named for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gsqc.numerics.formats import Gse, Spec
from gsqc.numerics.ops.linear import gse_matmul
from gsqc.targets.kernels import kernel_of
from gsqc.targets.llvm.compile import compile_kernels
from gsqc.targets.llvm.cpu import CPU_TARGETS

INSTRUCTIONS = {
    "x86-64-v2": "pmaddwd",
    "x86-64": "vpmaddwd",
    "x86-64-avxvnni": "vpdpbusd",
    "x86-64-vnni": "vpdpbusd",
    "aarch64": "smull2?|smlal2?",
    "aarch64+dotprod": "sdot",
    "aarch64+i8mm": "smmla",
}


def _gse(rows: int, k: int) -> Gse:
    return Gse(Spec((rows, k), "int8"), Spec((rows, k // 32), "int8"), Spec((rows, 1), "int32"), 8)


def test_every_target_has_an_instruction() -> None:
    assert set(INSTRUCTIONS) == set(CPU_TARGETS)


@pytest.mark.parametrize("target", CPU_TARGETS)
def test_the_matmul_uses_it(target: str, tmp_path: Path) -> None:
    cpu = CPU_TARGETS[target]
    objdump = "objdump" if cpu.compiler == ("cc",) else cpu.compiler[0].replace("gcc", "objdump")
    if shutil.which(cpu.compiler[0]) is None:
        pytest.skip(f"needs {cpu.compiler[0]}: apt-get install gcc-aarch64-linux-gnu")
    kernel, _ = kernel_of("product", gse_matmul, [_gse(64, 64), _gse(64, 64)], {})
    library = tmp_path / "kernels.so"
    library.write_bytes(compile_kernels([kernel], cpu).library)
    command = [objdump, "-d", "--no-show-raw-insn", str(library)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^\s+[0-9a-f]+:\s+(?:\{vex\} )?(\w+)", listing, re.MULTILINE)
    assert sum(re.fullmatch(INSTRUCTIONS[target], name) is not None for name in found) >= 16
