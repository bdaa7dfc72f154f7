# SPDX-License-Identifier: Apache-2.0
"""The NPUs by name, and the options that describe the machine around one to Vela."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsqc.errors import OptionError, TargetError
from gsqc.limits import MAXIMUM_MIB
from gsqc.option import check_options, option, options_of

TARGET = "arm-npu"
GROUP = "Arm NPU"
"""The heading of its options in --help."""
DEFAULT = "ethos-u85-256"
TRAINS = tuple(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048))
"""The accelerators that run a training step, by multiply-accumulates per cycle."""

MATMULS_ONLY = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *(f"ethos-u65-{macs}" for macs in (256, 512)),
)
LACKING = (
    "BITWISE_AND",
    "EQUAL",
    "GATHER",
    "GREATER",
    "LOGICAL_RIGHT_SHIFT",
    "MATMUL i16",
    "REDUCE_MAX i32",
    "SELECT",
)
"""What every step needs and Ethos-U55 and U65 have no operator for, as Vela 5.2 says.

docs/arm-npu.md has the whole table.
"""


def target_name(accelerator: str) -> str:
    """As a user writes it after --target."""
    return f"{TARGET}:{accelerator}"


def parse_accelerator(target: str) -> str:
    """arm-npu or arm-npu:ethos-u85-256 -> the accelerator. TargetError if no training step runs on
    it.
    """
    kind, _, name = target.partition(":")
    accelerator = name or DEFAULT
    # Vela knows more machines, but a step needs operators that only this family has.
    if kind == TARGET and accelerator in TRAINS:
        return accelerator
    if kind == TARGET and accelerator in MATMULS_ONLY:
        raise TargetError(
            f"{accelerator} cannot run a training step: it has no {', '.join(LACKING)}",
            f"use {target_name(DEFAULT)}, or another of the Ethos-U85 family",
        )
    known = ", ".join(target_name(a) for a in TRAINS)
    raise TargetError(f"unknown accelerator {name or target}", f"one of: {known}")


@dataclass(frozen=True)
class NpuOptions:
    """The machine that Vela compiles for. The target's name gives the accelerator."""

    accelerator: str = DEFAULT
    config: Path | None = option(
        None,
        help="Vela's configuration file (.ini).",
        flag="--npu-config",
        group=GROUP,
        example="vela.ini",
    )
    system_config: str = option(
        "Ethos_U85_SYS_DRAM_Mid",
        help="Section System_Config.… of Vela's file, which has clock and bandwidths.",
        command_default=None,
        flag="--npu-system",
        group=GROUP,
        example="Ethos_U85_SYS_DRAM_Mid",
    )
    memory_mode: str = option(
        "Dedicated_Sram_384KB",
        help="Section Memory_Mode.… of Vela's file, which says where tensors live.",
        command_default=None,
        flag="--npu-memory",
        group=GROUP,
        example="Dedicated_Sram_384KB",
    )
    sram_kib: int | None = option(
        None,
        help="SRAM that an NPU program may use, in KiB.",
        group=GROUP,
        minimum=1,
        maximum=MAXIMUM_MIB << 10,
        example=384,
    )
    dram_mib: int | None = option(
        None,
        help="DRAM that a step on the NPU may use, in MiB.",
        group=GROUP,
        minimum=1,
        maximum=MAXIMUM_MIB,
        example=512,
    )

    def __post_init__(self) -> None:
        """Check the sizes. Raises OptionError."""
        check_options(self)

    def arguments(self) -> list[str]:
        """Vela's options."""
        # Vela finds Arm/vela.ini among its own files, wherever it is installed.
        given = [
            "--accelerator-config",
            self.accelerator,
            "--config",
            str(self.config or "Arm/vela.ini"),
        ]
        given += ["--system-config", self.system_config, "--memory-mode", self.memory_mode]
        # Without a size Vela takes the memory mode's own.
        return given + (["--arena-cache-size", str(self.sram_kib << 10)] if self.sram_kib else [])


def npu_options(target: str, given: Mapping[str, object]) -> NpuOptions:
    """What Vela compiles for: the accelerator that a target names, and the options that were given.

    OptionError if an option has a value that no machine has.
    """
    chosen: dict[str, Any] = {
        o.field: given[o.name] for o in options_of(NpuOptions) if o.name in given
    }
    config = chosen.get("config")
    if config is not None and not Path(config).is_file():
        raise OptionError(
            f"no such file: {config}", "give Vela's configuration file (.ini) with --npu-config"
        )
    if config is not None:
        # Vela runs in a folder of its own, from which a relative path leads elsewhere.
        chosen["config"] = Path(config).absolute()
    return NpuOptions(parse_accelerator(target), **chosen)
