# SPDX-License-Identifier: Apache-2.0
"""nvcc takes the CUDA C: code for sm_80 and sm_90 and PTX, with tensor cores and dp4a, and no
floats in the PTX.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from gsqc.compiler.options import CompileOptions
from gsqc.errors import TargetError
from gsqc.numerics.ops.linear import random_gse
from gsqc.numerics.ops.registry import CASES, OPS, Case
from gsqc.targets.cuda import CUDA
from gsqc.targets.cuda.compile import CudaSource, compile_cuda, cuda_source
from gsqc.targets.kernels import kernel_of
from gsqc.targets.registry import find_target

needs_nvcc = pytest.mark.skipif(
    not shutil.which("nvcc"), reason="needs nvcc: install the CUDA toolkit"
)
NVDISASM = Path(sysconfig.get_path("purelib"), "nvidia", "cu13", "bin", "nvdisasm")


@pytest.fixture(scope="module")
def source() -> CudaSource:
    """A tile of a matmul, one of few rows, row programs and a layout program."""
    rng = np.random.default_rng(1)
    cases = {"tile": Case("", [random_gse(rng, (n, 64), 8) for n in (64, 64)])}
    cases["few"] = Case("", [random_gse(rng, (n, 64), 8) for n in (2, 64)])
    named = {"tile": "gse_matmul", "few": "gse_matmul", "row": "softmax", "layout": "split_heads"}
    named["rotation"] = "quantise"
    cases |= {
        symbol: next(iter(CASES[name](rng)))
        for symbol, name in named.items()
        if symbol not in cases
    }
    made = (
        kernel_of(s, OPS[name], cases[s].values, cases[s].attributes)[0]
        for s, name in named.items()
    )
    return cuda_source(list(made))


@needs_nvcc
def test_the_fat_binary_has_code_for_both_and_ptx(source: CudaSource) -> None:
    binary = compile_cuda(source)
    assert binary[:4] == (0xBA55ED50).to_bytes(4, "little"), "a fat binary's magic number"
    assert binary.count(b"\x7fELF") == 2
    assert len(binary) > 10_000


@needs_nvcc
def test_ptx_multiplies_on_tensor_cores_and_has_no_floats(
    source: CudaSource, tmp_path: Path
) -> None:
    code, ptx = tmp_path / "kernels.cu", tmp_path / "kernels.ptx"
    code.write_text(source.text)
    subprocess.run(
        ["nvcc", "-std=c++17", "-ptx", "-arch=compute_80", "-o", str(ptx), str(code)], check=True
    )
    text = ptx.read_text()
    assert text.count("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32") >= 16
    assert len(re.findall(r"\bdp4a\.s32\.s32", text)) >= 32
    assert "redux.sync.max.s32" in text
    rotation = text.split(".entry rotation(")[1].split(".entry")[0]
    assert rotation.count("shfl.sync.bfly.b32") >= 5
    assert not re.findall(r"\.(f16|f32|f64|bf16)\b", text)


@needs_nvcc
@pytest.mark.skipif(
    not NVDISASM.exists(), reason="needs nvdisasm: pip install nvidia-cuda-nvdisasm"
)
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_machine_code_multiplies_on_tensor_cores(
    architecture: str, source: CudaSource, tmp_path: Path
) -> None:
    code, cubin = tmp_path / "kernels.cu", tmp_path / "kernels.cubin"
    code.write_text(source.text)
    subprocess.run(
        [
            "nvcc",
            "-std=c++17",
            "-O3",
            "-cubin",
            f"-arch={architecture}",
            "-o",
            str(cubin),
            str(code),
        ],
        check=True,
    )
    listing = subprocess.run(
        [str(NVDISASM), str(cubin)], capture_output=True, text=True, check=True
    ).stdout
    assert listing.count("IMMA.16832.S8.S8") >= 16
    assert listing.count("IDP.4A.S8.S8") >= 32


def test_without_nvcc(source: CudaSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before the model is read, and where it is called."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for attempt in (lambda: find_target(CUDA).require(), lambda: compile_cuda(source)):
        with pytest.raises(
            TargetError, match="compiling for cuda needs nvcc, which is not installed"
        ):
            attempt()
    assert CompileOptions(tmp_path / "b.gsqc", target=CUDA).target == "cuda"
