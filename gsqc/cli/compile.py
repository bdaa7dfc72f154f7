# SPDX-License-Identifier: Apache-2.0
"""gsqc compile: compiles a model into a bundle."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from gsqc.bundle.base import base_lines
from gsqc.check.first_digests import take_first_digests
from gsqc.cli.command import OptionsOf
from gsqc.cli.config import ConfigOption
from gsqc.cli.output import Output
from gsqc.cli.shared import DownloadOption, JsonOption, ModelArgument, fetch_if_asked
from gsqc.compiler.installed import needs_compiler
from gsqc.compiler.options import CompileOptions
from gsqc.compiler.parse_options import parse_compile_options
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.targets.registry import resolve_target, target_options

TARGET_OPTIONS = [option for _, option in target_options()]
"""The options that targets add. Each target declares its own."""


def compile_command(
    model: ModelArgument,
    chosen: Annotated[dict[str, Any], OptionsOf(CompileOptions)],
    of_target: Annotated[dict[str, Any], OptionsOf(*TARGET_OPTIONS)],
    download: DownloadOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Compile MODEL into an integer-only fine-tuning step, a bundle.

    Options marked (needed) can also come from --config.
    """
    out = Output(json)
    target = resolve_target(chosen.pop("target"))
    given = {name: value for name, value in of_target.items() if value is not None}
    options = parse_compile_options(
        model, known_models=KNOWN_MODELS, target=target, target_options=given, **chosen
    )
    with needs_compiler():
        from gsqc.compiler.compile import compile_model
    fetch_if_asked(download, model, out)
    start = time.monotonic()
    with out.console.status("") as status:
        manifest = compile_model(
            model,
            options,
            lambda text: status.update(text),
            partial(take_first_digests, say=out.say),
            out.say,
        )
    seconds = time.monotonic() - start
    out.say(f"wrote {options.output} for {target} in {seconds:.0f} s")
    for line in base_lines(manifest.base, manifest.base_kinds, manifest.base_losses):
        out.say(f"base {line}")
    if manifest.calibration is not None:
        out.say(f"calibrated {manifest.calibration}")
    record = {"bundle": str(options.output), "target": target, "seconds": round(seconds, 1)}
    record["calibration"] = manifest.calibration and asdict(manifest.calibration)
    out.emit({**record, "base": manifest.base_kinds, "base_losses": manifest.base_losses})
