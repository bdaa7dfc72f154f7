# SPDX-License-Identifier: Apache-2.0
"""config.toml of a run: the settings that start it again, and what it was made with."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.data import DataOptions, validation_share
from gsqc.data.prompt_end import escaped
from gsqc.runtime.store import SETTINGS
from gsqc.training.run_paths import PATHS, record_paths
from gsqc.training.settings_file import RECORDED, write_table
from gsqc.version import __version__


def file_paths(bundle: Path, reading: DataOptions, run: Path | None) -> dict[str, Any]:
    """Where the files of a run are. A share of held-out data is no file. Raises OptionError."""
    is_file = reading.validation is not None and validation_share(reading.validation) is None
    held_out = [Path(str(reading.validation))] if is_file else []
    runs = [] if run is None else [run]
    images = [] if reading.images is None else [reading.images]
    return record_paths(run, [bundle, *runs, *reading.data, *held_out, *images])


def made_with_now(bundle: Bundle, config: Mapping[str, Any]) -> dict[str, Any]:
    """What config.toml records beside the settings: the bundle, hashes of data, and paths."""
    kept = {k: v for k, v in config.items() if k.endswith("_sha256") or k == PATHS}
    return {"bundle": bundle.meaning, **kept}


def settings_text(
    run: Path,
    settings: Mapping[str, Any],
    reading: DataOptions,
    bundle: Bundle,
    config: Mapping[str, Any],
) -> str:
    """The text of config.toml."""
    place, file = (shlex.quote(str(path)).replace("\n", " ") for path in (run, run / SETTINGS))
    head = (
        f"# Written by gsqc {__version__}.\n"
        f"# Go on with this run:    gsqc train --resume {place}\n"
        f"# Run the same once more: gsqc train --config {file} --run ANOTHER\n\n"
    )
    if settings:  # as the option spells it
        settings = {**settings, "prompt_end": escaped(reading.prompt_end)}
    steps = {"steps": config["steps"]} if "epochs" in config else {}
    recorded = write_table(RECORDED, {**made_with_now(bundle, config), **steps})
    return f"{head}{write_table('train', settings)}\n{recorded}"
