# SPDX-License-Identifier: Apache-2.0
"""CUDA kernels and the session around them, in an emulation of the block structure on the host: the
same integers.

No GPU is needed, and none has run this code: the emulation is a test of arithmetic, indices,
barriers and calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.check.check import run_check
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.errors import BundleError, TargetError
from gsqc.numerics.formats import Gse, flatten
from gsqc.numerics.ops.linear import gse_matmul, random_gse
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import OPS, Case, Kind, evaluate
from gsqc.runtime.session import Session
from gsqc.targets.cuda import CUDA, row_kernel
from gsqc.targets.cuda import driver as cuda_driver
from gsqc.targets.cuda.kernels import CudaKernels
from gsqc.targets.interface import Call
from gsqc.targets.kernels import kernel_of
from tests.numerics.ops.test_exact import COMPOSITE, all_cases
from tests.targets.cuda.emulated import emulate, emulated_source, load_emulated, load_source

CASES = [(n, c) for n, c in all_cases() if n not in COMPOSITE and OPS[n].kind is not Kind.VIEW]


def _larger_cases() -> Iterator[tuple[str, Case]]:
    """What fills more than one tile, chunk of groups, warp or block."""
    rng = np.random.default_rng(7)
    for name, outliers in (("tiles", False), ("tiles, outliers", True)):
        x, w = (random_gse(rng, (2, n, 288), 8, extreme=outliers) for n in (70, 130))
        yield "gse_matmul", Case(name, [x, w])
    same = [
        Gse(x.m, np.zeros_like(x.d), x.e, 8)
        for x in (random_gse(rng, (n, 288), 8) for n in (70, 130))
    ]
    yield "gse_matmul", Case("tiles of equal exponents", same)
    yield "quantise", Case("wide", [random_row(rng, (5, 1504), 16)], {"bits": 6})
    place = np.arange(300, dtype=np.int32).reshape(1, 300, 1) % 170
    scores = random_row(rng, (1, 300, 300), 24)
    yield "softmax", Case("wide", [scores, place], {"scale": 0.125})
    yield "silu_gate_grad", Case("wide", [random_row(rng, (3, 800), 16) for _ in range(3)])


CASES += list(_larger_cases())


def _results(kernels: CudaKernels, symbol: str, name: str, case: Case) -> list[np.ndarray]:
    """What a kernel writes, over memory that holds something else."""
    golden = flatten(evaluate(OPS[name], case.values, case.attributes))
    arrays = [
        kernels.place(np.ascontiguousarray(a).reshape(-1)) for a in flatten(tuple(case.values))
    ]
    results = [kernels.allocate(g.nbytes).view(g.dtype) for g in golden]
    for result in results:
        result.fill(85)
    kernels.program([Call(symbol, symbol, [*arrays, *results])]).run()
    return [r.reshape(g.shape) for r, g in zip(results, golden, strict=True)]


def _compare(kernels: CudaKernels, symbol: str, name: str, case: Case) -> None:
    golden = flatten(evaluate(OPS[name], case.values, case.attributes))
    for expected, got in zip(golden, _results(kernels, symbol, name, case), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> CudaKernels:
    """Every case as a kernel."""
    folder = tmp_path_factory.mktemp("kernels")
    wanted = [
        kernel_of(f"case_{k}", OPS[n], c.values, c.attributes)[0] for k, (n, c) in enumerate(CASES)
    ]
    return load_emulated(wanted, folder)


@pytest.mark.parametrize(
    "k", [pytest.param(k, id=f"{n}-{c.name}") for k, (n, c) in enumerate(CASES)]
)
def test_a_kernel_equals_numpy(kernels: CudaKernels, k: int) -> None:
    _compare(kernels, f"case_{k}", *CASES[k])


@pytest.mark.parametrize("name", ["rms_norm_grad", "quantise", "dequantise_q4_1"])
def test_stored_values_that_shared_memory_cannot_hold(
    name: str, emulated_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go to global memory, and blocks take several rows each."""
    monkeypatch.setattr(row_kernel, "SHARED_BYTES", 0)
    monkeypatch.setattr(row_kernel, "SPILL_BLOCKS", 2)
    case = next(c for n, c in CASES if n == name)
    kernel, _ = kernel_of("spilling", OPS[name], case.values, case.attributes)
    source = emulated_source([kernel])
    assert "spilling_spill[2]" in source.text
    assert source.launches["spilling"].blocks == 2
    _compare(load_source(source, emulated_gpu), "spilling", name, case)


@pytest.mark.parametrize(
    ("name", "needed"), [("tiles, outliers", False), ("tiles of equal exponents", True)]
)
def test_sums_of_a_tile_are_int32_where_they_fit(
    name: str, needed: bool, emulated_gpu: Path
) -> None:
    """Without the narrow path, results are missing where exponents are equal, and none where they
    are far apart.
    """
    case = next(c for n, c in CASES if (n, c.name) == ("gse_matmul", name))
    kernel, _ = kernel_of("product", gse_matmul, case.values, {})
    source = emulated_source([kernel])
    narrow = "multiply_tile<int>(p, tile, batch, row, column);"
    assert source.text.count(narrow) == 1
    without = replace(source, text=source.text.replace(narrow, "{}"))
    (found,) = _results(load_source(without, emulated_gpu), "product", "gse_matmul", case)
    assert np.array_equal(found, evaluate(gse_matmul, case.values, {})) is not needed


@pytest.fixture(scope="module")
def cuda_bundle(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny model compiled for the emulated GPU, which stays there for the module."""
    folder = tmp_path_factory.mktemp("cuda")
    output = folder / "tiny.gsqc"
    options = CompileOptions(
        output, target=CUDA, adapter=Lora(4, 8), sequence_length=24, batch=2, seed=1
    )
    with pytest.MonkeyPatch.context() as patch:
        emulate(patch.setattr, folder)
        compile_model(str(model_directory), options)
        yield output


def test_a_session_equals_numpy(cuda_bundle: Path) -> None:
    """Steps of two sequences, with managed memory, late launches, copies and clears."""
    result = run_check(cuda_bundle, ["numpy", CUDA], 2)
    assert result.equal, result
    assert len(set(result.targets[CUDA])) == 2


def test_generation_equals_numpy(cuda_bundle: Path) -> None:
    numpy, cuda = (
        list(Session(cuda_bundle, target=t).generate([5, 6, 7], 3)) for t in ("numpy", CUDA)
    )
    assert numpy == cuda


def test_the_bundle_is_for_any_cpu(cuda_bundle: Path) -> None:
    bundle = Bundle.open(cuda_bundle)
    assert set(bundle.files) >= {"code/cuda/kernels.fatbin", "code/cuda/launches.json"}
    assert list(bundle.manifest.targets) == [CUDA]
    assert not [name for name in bundle.files if name.startswith("lib/")]


# --------------------------------------------------------------------------------------------------
# no such GPU


def test_no_driver(cuda_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda-that-is-not-there.so.1")
    with pytest.raises(TargetError, match="no NVIDIA driver"):
        Session(cuda_bundle)
    result = run_check(cuda_bundle, ["numpy", CUDA], 1)
    assert result.equal is None
    assert list(result.targets) == ["numpy"]
    assert "no NVIDIA driver" in result.not_run[CUDA]


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("EMULATED_GPUS", "0", "no NVIDIA GPU"),
        ("EMULATED_CAPABILITY", "7", "compute capability 7.0"),
    ],
)
def test_no_gpu_that_fits(
    variable: str, value: str, words: str, emulated_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(TargetError, match=words):
        cuda_driver.CudaDriver()


def test_an_error_of_the_gpu_is_one_line(kernels: CudaKernels) -> None:
    """Memory of the host alone."""
    name, case = CASES[0]
    arrays = [
        np.ravel(a)
        for a in flatten((case.values, evaluate(OPS[name], case.values, case.attributes)))
    ]
    program = kernels.program([Call("case_0", "case_0", arrays)])
    with pytest.raises(
        TargetError, match="cuCtxSynchronize failed: an illegal memory access was encountered"
    ):
        program.run()
    kernels.driver.synchronize()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": [1]}', '{"a": [0, 32]}', '{"a": [1, 2048]}', '{"a": [1.5, 32]}']
)
def test_launches_of_a_stranger(text: str) -> None:
    with pytest.raises(BundleError, match="launches is malformed"):
        CudaKernels(b"", text.encode())
