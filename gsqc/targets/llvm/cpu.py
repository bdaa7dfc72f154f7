# SPDX-License-Identifier: Apache-2.0
"""The CPUs that the LLVM target writes code for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CpuTarget:
    """A CPU baseline.

    name      what a user writes after --target
    triple    LLVM's target triple
    mcpu      the oldest CPU that runs the code, in LLVM's names
    lanes     int32 lanes of a vector register
    features  flags of /proc/cpuinfo that a machine must have
    avx2      whether kernels may use AVX2 instructions by name
    vnni      whether they may use the byte products of AVX-512 VNNI or AVX-VNNI
    dotprod   whether they may use Arm's byte products
    i8mm      whether they may use Arm's byte matrix products
    mattr     LLVM features beyond those of mcpu
    compiler  the C compiler that links for it
    emulator  what runs its programs on another kind of machine
    """

    name: str
    triple: str
    mcpu: str
    lanes: int
    features: tuple[str, ...]
    avx2: bool = False
    vnni: bool = False
    dotprod: bool = False
    i8mm: bool = False
    mattr: tuple[str, ...] = ()
    compiler: tuple[str, ...] = ("cc",)
    emulator: tuple[str, ...] = ()

    @property
    def machine(self) -> str:
        """The kind of machine, as `uname -m` prints it."""
        return self.triple.split("-", 1)[0]


# `max` has every extension that QEMU knows, those of the targets below among them.
QEMU_AARCH64 = ("qemu-aarch64", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu")

# In order of preference: `--target native` takes the last one that a machine can run.
CPU_TARGETS = {
    "x86-64-v2": CpuTarget(
        name="x86-64-v2",
        triple="x86_64-linux-gnu",
        mcpu="x86-64-v2",
        lanes=4,
        features=("ssse3", "sse4_1", "sse4_2", "popcnt"),
    ),
    "x86-64": CpuTarget(
        name="x86-64",
        triple="x86_64-linux-gnu",
        mcpu="x86-64-v3",
        lanes=8,
        features=("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"),
        avx2=True,
    ),
    "x86-64-avxvnni": CpuTarget(
        name="x86-64-avxvnni",
        triple="x86_64-linux-gnu",
        mcpu="x86-64-v3",
        mattr=("+avxvnni",),
        lanes=8,
        features=("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "avx_vnni"),
        avx2=True,
        vnni=True,
    ),
    "x86-64-vnni": CpuTarget(
        name="x86-64-vnni",
        triple="x86_64-linux-gnu",
        mcpu="x86-64-v4",
        mattr=("+avx512vnni",),
        lanes=16,
        features=("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni"),
        avx2=True,
        vnni=True,
    ),
    "aarch64": CpuTarget(
        name="aarch64",
        triple="aarch64-linux-gnu",
        mcpu="generic",
        lanes=4,
        features=("asimd",),
        compiler=("aarch64-linux-gnu-gcc",),
        emulator=QEMU_AARCH64,
    ),
    "aarch64+dotprod": CpuTarget(
        name="aarch64+dotprod",
        triple="aarch64-linux-gnu",
        mcpu="generic",
        mattr=("+dotprod",),
        lanes=4,
        features=("asimd", "asimddp"),
        dotprod=True,
        compiler=("aarch64-linux-gnu-gcc",),
        emulator=QEMU_AARCH64,
    ),
    "aarch64+i8mm": CpuTarget(
        name="aarch64+i8mm",
        triple="aarch64-linux-gnu",
        mcpu="generic",
        mattr=("+dotprod", "+i8mm"),
        lanes=4,
        features=("asimd", "asimddp", "i8mm"),
        dotprod=True,
        i8mm=True,
        compiler=("aarch64-linux-gnu-gcc",),
        emulator=QEMU_AARCH64,
    ),
}
