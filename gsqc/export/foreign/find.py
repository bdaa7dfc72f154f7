# SPDX-License-Identifier: Apache-2.0
"""find_adapter: the files of an adapter, wherever a user points: a directory, one of its
subfolders, or the file of the weights.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsqc.bundle.json_text import read_json
from gsqc.errors import ExportError
from gsqc.export.mlx import WEIGHTS as MLX_WEIGHTS
from gsqc.export.peft import CONFIG
from gsqc.export.peft import WEIGHTS as PEFT_WEIGHTS
from gsqc.files.reading import read_file

_MAXIMUM_CONFIG = 1 << 20
_LISTED = 8
_WEIGHTS = {"peft": PEFT_WEIGHTS, "mlx": MLX_WEIGHTS}
_WRITERS = {"peft": "PEFT's save_pretrained", "mlx": "mlx_lm.lora"}
_OLD = {
    "adapter_model.bin": "adapter_model.bin is a pickle, which may run any code: "
    "save it again as safetensors",
    "adapters.npz": "adapters.npz is of an older mlx-lm: save it again as safetensors",
}


@dataclass(frozen=True)
class FoundAdapter:
    """The files of an adapter.

    kind     "peft", "mlx" or "gguf"
    weights  the file of its numbers
    config   the settings of adapter_config.json, empty for a GGUF file
    notes    sentences for the user
    """

    kind: str
    weights: Path
    config: dict[str, Any]
    notes: tuple[str, ...] = ()


def find_adapter(path: Path, kind: str, subfolder: str | None) -> FoundAdapter:
    """The files of the adapter at `path`, which a user says is of `kind`.

    Raises ExportError, also if it is of another kind or if there are several.
    """
    place = path / subfolder if subfolder else path
    notes: tuple[str, ...] = ()
    if kind == "gguf":
        if os.path.isdir(place):
            raise ExportError(f"{place} is a directory", "give the .gguf file with --gguf")
        if place.suffix == ".safetensors":
            raise ExportError(f"{place} is no GGUF file", "give it with --peft or --mlx")
        return FoundAdapter(kind, place, {})
    weights = None
    if os.path.isfile(place):
        weights, place = _given_file(place), place.parent
    elif not os.path.exists(place / CONFIG):
        place, notes = _subfolder(place, kind)
    config = _config(place, kind)
    found = _kind_of(config, kind)
    if found != kind:
        raise ExportError(
            f"{place} is an adapter that {_WRITERS[found]} wrote", f"give it with --{found}"
        )
    return FoundAdapter(kind, weights or _weights(place, kind), config, notes)


def _given_file(file: Path) -> Path:
    """A file of weights that the user named."""
    if file.suffix == ".gguf":
        raise ExportError(f"{file} is a GGUF file", "give it with --gguf")
    if file.suffix != ".safetensors":
        hint = _OLD.get(file.name, "give a .safetensors file, or the adapter's directory")
        raise ExportError(f"{file} is no .safetensors file", hint)
    return file


def _subfolder(path: Path, kind: str) -> tuple[Path, tuple[str, ...]]:
    """The only subfolder with an adapter, and a note. `path` itself if there is none."""
    try:
        with os.scandir(path) as entries:
            names = sorted(e.name for e in entries if os.path.exists(path / e.name / CONFIG))
    except (OSError, ValueError):
        return path, ()
    if not names:
        return path, ()
    if len(names) == 1:
        return path / names[0], (f"the adapter is that of its subfolder {names[0]}",)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    raise ExportError(
        f"{path} holds {len(names)} adapters: {', '.join(names[:_LISTED])}{more}",
        f"choose one of them: --{kind} {path} --subfolder {names[0]}",
    )


def _config(place: Path, kind: str) -> dict[str, Any]:
    file = place / CONFIG
    if not os.path.exists(file):
        raise ExportError(
            f"{place} has no {CONFIG}", f"give the directory that {_WRITERS[kind]} wrote"
        )
    try:
        config = read_json(read_file(file, most_bytes=_MAXIMUM_CONFIG))
    except OSError as error:
        raise ExportError(f"cannot read {file}: {error.strerror}", "check the file") from None
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise ExportError(f"{file} is not a JSON object", "save the adapter again")
    return config


def _kind_of(config: dict[str, Any], asked: str) -> str:
    """The program that wrote the settings. A file that does not tell is what the user says."""
    if "peft_type" in config:
        return "peft"
    return "mlx" if {"lora_parameters", "fine_tune_type"} & config.keys() else asked


def _weights(place: Path, kind: str) -> Path:
    name = _WEIGHTS[kind]
    if os.path.exists(place / name):
        return place / name
    hints = [hint for old, hint in _OLD.items() if os.path.exists(place / old)]
    raise ExportError(
        f"{place} has no {name}",
        hints[0] if hints else f"give the directory that {_WRITERS[kind]} wrote",
    )
