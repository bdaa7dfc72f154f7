# SPDX-License-Identifier: Apache-2.0
"""gsqc compile: a model becomes a bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from gsqc.cli.command import OptionsOf
from gsqc.cli.config import ConfigOption
from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption, ModelArgument
from gsqc.compiler.options import CompileOptions, parse_compile_options
from gsqc.errors import OptionError
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.option import Option
from gsqc.targets import resolve_target
from gsqc.targets.arm_npu.accelerators import npu_options

NPU = "Arm NPU"


def compile_command(
    model: ModelArgument,
    chosen: Annotated[dict[str, Any], OptionsOf(CompileOptions)],
    npu_config: Annotated[
        Path | None, Option("Vela's .ini file.", group=NPU, example="vela.ini")
    ] = None,
    npu_system: Annotated[
        str | None,
        Option(
            "Its section System_Config.…, which has clock and bandwidths.",
            group=NPU,
            example="Ethos_U85_SYS_DRAM_Mid",
        ),
    ] = None,
    npu_memory: Annotated[
        str | None,
        Option(
            "Its section Memory_Mode.…, which says where tensors live.",
            group=NPU,
            example="Dedicated_Sram_384KB",
        ),
    ] = None,
    sram_kib: Annotated[
        int | None, Option("SRAM that an NPU program may use, in KiB.", group=NPU, example=384)
    ] = None,
    dram_mib: Annotated[
        int | None, Option("DRAM that a step on the NPU may use, in MiB.", group=NPU, example=512)
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Compile MODEL into an integer-only fine-tuning step, a bundle.

    What is marked (needed) can also come from --config.
    """
    out = Output(json)
    target = resolve_target(chosen.pop("target"))
    machine = {"system_config": npu_system, "memory_mode": npu_memory}
    memory = {"sram_kib": sram_kib, "dram_mib": dram_mib}
    npu = npu_options(target, npu_config, **machine, **memory)
    options = parse_compile_options(
        model, known_models=KNOWN_MODELS, target=target, npu=npu, **chosen
    )
    try:
        from gsqc.compiler.compile import compile_model
    except ModuleNotFoundError as error:
        raise OptionError(
            f"the compiler is not installed ({error.name})", "pip install 'gsqc[compiler]'"
        ) from None
    start = time.monotonic()
    with out.console.status("") as status:
        compile_model(model, options, lambda text: status.update(text))
    seconds = time.monotonic() - start
    out.say(f"wrote {options.output} for {target} in {seconds:.0f} s")
    out.emit({"bundle": str(options.output), "target": target, "seconds": round(seconds, 1)})
