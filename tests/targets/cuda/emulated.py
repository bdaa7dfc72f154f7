# SPDX-License-Identifier: Apache-2.0
"""An emulated GPU: kernels built for the host with emulation.h, and a driver library that starts
them.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path

import pytest

from gsqc.targets.cuda import bundle_code
from gsqc.targets.cuda import driver as cuda_driver
from gsqc.targets.cuda.compile import CudaSource, cuda_source
from gsqc.targets.cuda.kernels import CudaKernels
from gsqc.targets.kernels import Kernel

HERE = Path(__file__).parent.resolve()
emulated_source = partial(cuda_source, instructions=HERE / "emulation.h")


def build_kernels(source: CudaSource, folder: Path) -> bytes:
    """The kernels as a library of the host. Its path is what the emulated driver takes for a fat
    binary.
    """
    code, library = folder / "kernels.cpp", folder / "kernels.so"
    heads = re.findall(r'extern "C" __global__ [^\n]*\n(\w+)\(([^)]*)\)', source.text)
    counts = [
        f'extern "C" {{ int {name}_arguments = {parameters.count(",") + 1}; }}\n'
        for name, parameters in heads
    ]
    assert len(counts) == len(source.launches)
    code.write_text(source.text + "".join(counts))
    options = [
        "-std=c++17",
        "-O1",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Werror",
        "-Wno-unknown-pragmas",
        "-Wno-unused",
    ]
    subprocess.run(["g++", *options, "-o", str(library), str(code)], check=True)
    return str(library).encode() + b"\0"


def build_driver(folder: Path) -> Path:
    """The emulated libcuda.so.1."""
    library = folder / "libcuda.so.1"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        ["cc", *options, "-o", str(library), str(HERE / "libcuda.c"), "-ldl"], check=True
    )
    return library


def emulate(patch: Callable[..., None], folder: Path) -> None:
    """From here on code for cuda is built for the emulation, and the driver is the emulated one.

    `patch` is `monkeypatch.setattr`.
    """
    patch(cuda_driver, "LIBRARY", str(build_driver(folder)))
    patch(bundle_code, "cuda_source", emulated_source)
    patch(bundle_code, "compile_cuda", partial(build_kernels, folder=folder))
    patch(bundle_code, "require_nvcc", lambda: None)


@pytest.fixture
def emulated_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder. Sessions of cuda bundles run in the emulation."""
    emulate(monkeypatch.setattr, tmp_path)
    return tmp_path


def load_source(source: CudaSource, folder: Path) -> CudaKernels:
    """The kernels of a source, in the emulation. The driver must be the emulated one."""
    launches = {name: astuple(launch) for name, launch in source.launches.items()}
    return CudaKernels(build_kernels(source, folder), json.dumps(launches).encode())


def load_emulated(kernels: Sequence[Kernel], folder: Path) -> CudaKernels:
    """Kernels, written and loaded in the emulation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_driver, "LIBRARY", str(build_driver(folder)))
        return load_source(emulated_source(kernels), folder)
