# SPDX-License-Identifier: Apache-2.0
"""The machine code of a bundle: integers only, and no larger for a deeper model."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from tests.models.capture.tiny import tiny_llama
from tests.targets_here import COMPILED

X87 = r"f(?:add|sub|mul|div|ild|ist|ld|st|com|sqrt|chs|abs)\w*"
SSE_AVX = (
    r"v?(?:add|sub|mul|div|sqrt|min|max|rcp|rsqrt|round|dp|hadd|hsub|addsub|cmp\w*|u?comi"
    r"|f?n?m(?:add|sub)\w*)[ps][sdh]"
)
CONVERSIONS = r"v?cvt\w+"
FLOAT_INSTRUCTION = re.compile(rf"^(?:{X87}|{SSE_AVX}|{CONVERSIONS}|vf(?:n?m)(?:add|sub)\w+)$")


def instructions(library: Path) -> list[str]:
    """The mnemonics of a library's code, in order."""
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(library)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return re.findall(
        r"^\s+[0-9a-f]+:\s+(?:(?:rep\w*|lock|notrack|bnd|data16|cs) )*(\w+)", listing, re.MULTILINE
    )


def test_the_pattern_knows_float_arithmetic() -> None:
    for name in (
        "vaddps",
        "mulsd",
        "vfmadd231ps",
        "vfnmadd132sd",
        "cvtsi2sd",
        "vcvtdq2ps",
        "vdivpd",
        "fld",
        "vroundps",
    ):
        assert FLOAT_INSTRUCTION.match(name), name
    for name in (
        "vpaddd",
        "vpmaddwd",
        "vmovups",
        "vmovaps",
        "vpmulld",
        "vxorps",
        "imul",
        "vpcmpeqd",
        "vpmaxsd",
        "vpminsd",
    ):
        assert not FLOAT_INSTRUCTION.match(name), name


def test_compiled_kernels_have_no_float_arithmetic(bundle: Path) -> None:
    """Moves and bitwise operations have float names too (vmovups, vxorps) and compute nothing."""
    code = instructions(bundle / "code" / COMPILED / "kernels.so")
    assert "vpmaddwd" in code
    assert len(code) > 10_000
    assert not [name for name in code if FLOAT_INSTRUCTION.match(name)]


@pytest.mark.slow
def test_code_does_not_grow_with_depth(tmp_path: Path) -> None:
    sizes = []
    for layers in (2, 30):
        output = tmp_path / f"{layers}.gsqc"
        options = CompileOptions(output, adapter=Lora(rank=4, alpha=8), sequence_length=16)
        compile_model(tiny_llama(num_hidden_layers=layers), options)
        sizes.append(next(iter(Bundle.open(output).manifest.targets.values())).code_bytes)
    assert sizes[1] <= 1.2 * sizes[0]
