# SPDX-License-Identifier: Apache-2.0
"""gsqc compile: a model becomes a bundle."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from gsqc.cli.command import OptionsOf
from gsqc.cli.config import ConfigOption
from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption, ModelArgument
from gsqc.compiler.installed import needs_compiler
from gsqc.compiler.options import CompileOptions, parse_compile_options
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.option import option
from gsqc.targets import resolve_target
from gsqc.targets.arm_npu.accelerators import npu_options

NPU = "Arm NPU"


@dataclass(frozen=True)
class NpuArguments:
    """The machine around an NPU, for `npu_options`."""

    config: Path | None = option(
        None,
        help="Vela's configuration file (.ini).",
        flag="--npu-config",
        group=NPU,
        example="vela.ini",
    )
    system_config: str | None = option(
        None,
        help="Section System_Config.… of Vela's file, which has clock and bandwidths.",
        flag="--npu-system",
        group=NPU,
        example="Ethos_U85_SYS_DRAM_Mid",
    )
    memory_mode: str | None = option(
        None,
        help="Section Memory_Mode.… of Vela's file, which says where tensors live.",
        flag="--npu-memory",
        group=NPU,
        example="Dedicated_Sram_384KB",
    )
    sram_kib: int | None = option(
        None, help="SRAM that an NPU program may use, in KiB.", group=NPU, example=384
    )
    dram_mib: int | None = option(
        None, help="DRAM that a step on the NPU may use, in MiB.", group=NPU, example=512
    )


def compile_command(
    model: ModelArgument,
    chosen: Annotated[dict[str, Any], OptionsOf(CompileOptions)],
    npu: Annotated[dict[str, Any], OptionsOf(NpuArguments)],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Compile MODEL into an integer-only fine-tuning step, a bundle.

    What is marked (needed) can also come from --config.
    """
    out = Output(json)
    target = resolve_target(chosen.pop("target"))
    options = parse_compile_options(
        model, known_models=KNOWN_MODELS, target=target, npu=npu_options(target, **npu), **chosen
    )
    with needs_compiler():
        from gsqc.compiler.compile import compile_model
    start = time.monotonic()
    with out.console.status("") as status:
        compile_model(model, options, lambda text: status.update(text))
    seconds = time.monotonic() - start
    out.say(f"wrote {options.output} for {target} in {seconds:.0f} s")
    out.emit({"bundle": str(options.output), "target": target, "seconds": round(seconds, 1)})
