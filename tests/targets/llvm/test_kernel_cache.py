# SPDX-License-Identifier: Apache-2.0
"""The cache of compiled kernels gives the code that LLVM would make, or nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.numerics.ops.registry import OPS
from gsqc.targets.kernels import Kernel, kernel_of
from gsqc.targets.llvm import compile as compile_module
from gsqc.targets.llvm.compile import compile_kernels
from gsqc.targets.llvm.cpu import CPU_TARGETS
from gsqc.targets.llvm.kernel_cache import KernelCache, cache_folder, kernel_key
from tests.numerics.ops.float_reference import to_row

CPU = CPU_TARGETS["x86-64-v2"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kernel(name: str = "a", columns: int = 40, bits: int = 16) -> Kernel:
    row = to_row(np.ones((3, columns)), 24)
    return kernel_of(name, OPS["scale"], [row], {"factor": 0.7, "bits": bits})[0]


def never(*_: Any) -> Any:
    raise AssertionError("compiled again")


def test_a_key_has_all_that_code_depends_on() -> None:
    assert kernel_key(kernel("b"), CPU) == kernel_key(kernel(), CPU)
    other = [kernel(columns=41), kernel(bits=24), replace(kernel(), attributes={"x_bits": 8})]
    keys = {kernel_key(k, CPU) for k in (kernel(), *other)}
    keys.add(kernel_key(kernel(), CPU_TARGETS["x86-64"]))
    assert len(keys) == 5


def test_a_known_kernel_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    two = [kernel("first"), kernel("second", columns=41)]
    cold = compile_kernels(two, CPU)
    monkeypatch.setattr(compile_module, "lower_kernel", never)
    assert compile_kernels(two, CPU) == cold
    # Under other names the code is the same, and two names may stand for one kernel.
    same = [kernel("third"), kernel("fourth"), kernel("fifth", columns=41)]
    assert compile_kernels(same, CPU).code_bytes == cold.code_bytes


@pytest.mark.parametrize("damage", [b"", b"x" * 100])
def test_a_damaged_object_is_made_again(home: Path, damage: bytes) -> None:
    cold = compile_kernels([kernel()], CPU)
    (file,) = home.glob("gsqc/kernels/*/*.o")
    content = file.read_bytes()
    file.write_bytes(damage or content[:-1])
    assert compile_kernels([kernel()], CPU) == cold
    assert file.read_bytes() == content


def test_a_folder_that_others_can_write_to_is_not_used(home: Path) -> None:
    cache_folder().mkdir(parents=True)
    cache_folder().chmod(0o777)
    compile_kernels([kernel()], CPU)
    assert not list(home.rglob("*.o"))


def test_a_place_that_cannot_be_written_to_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compile_kernels([kernel()], CPU).code_bytes > 0


def test_what_was_not_used_for_the_longest_time_goes(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path)
    files = [tmp_path / f"{k}0" / f"{k}0.o" for k in range(4)]
    for k, file in enumerate(files):
        cache.put(f"{k}0", bytes(100))
        os.utime(file, (k, k))
    assert cache.get("00") == bytes(100)  # from now on it is the newest
    cache.prune(limit=600)
    assert all(file.exists() for file in files)
    cache.prune(limit=400)
    assert [file.exists() for file in files] == [True, False, False, False]
