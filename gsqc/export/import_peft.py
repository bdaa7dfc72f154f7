# SPDX-License-Identifier: Apache-2.0
"""read_peft: reads a PEFT directory as the adapter of a bundle. It needs neither torch nor peft.

The files may be a stranger's, so every field is checked. Floats become int32 with 24 fraction bits,
rounded to nearest, half to even. So an adapter that gsqc exported comes back bit for bit.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, deserialize

from gsqc.adapters.linears import LINEARS, SHORT_NAMES
from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.bundle.json_text import read_json
from gsqc.errors import ExportError
from gsqc.export.adapter import Int32, adapter_settings, adapter_slots, to_int32
from gsqc.export.peft import CONFIG, PREFIX, WEIGHTS
from gsqc.files.reading import read_file

_MAXIMUM_CONFIG, _MAXIMUM_HEADER = 1 << 20, 100_000_000
_LIMIT = 64.0
# fmt: off
_TELLING_NOTHING = {
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
    "inference_mode", "r", "lora_alpha", "target_modules", "exclude_modules", "lora_dropout",
    "init_lora_weights", "layers_pattern", "megatron_core", "qalora_group_size", "eva_config",
}
# fmt: on
"""Settings in adapter_config.json that do not change y = W·x + alpha / r · B·A·x.

r, lora_alpha and some others are here because they are checked on their own.
"""
_PLAIN_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that leave the base's weights alone."""


@dataclass(frozen=True)
class TakenAdapter:
    """An adapter as state tensors by name.

    `base_name` is the base model that the adapter names, `rounded` says how many numbers were
    rounded, and `notes` are sentences for the user.
    """

    tensors: dict[str, Int32]
    base_name: str
    rounded: int
    notes: tuple[str, ...]


def read_peft(bundle: Bundle, path: Path, accepted_names: frozenset[str] | None) -> TakenAdapter:
    """The adapter in `path` for `bundle`.

    Its base model must have one of `accepted_names`, or any name if that is None. Raises
    ExportError with every problem of the settings, or with the first problem of the weights.
    """
    config = _config(path)
    slots = adapter_slots(bundle)
    problems = _setting_problems(config, bundle)
    base_name = config.get("base_model_name_or_path") or ""
    if not isinstance(base_name, str):
        problems.append("the name of its base model is no text")
        base_name = ""
    if accepted_names is not None and base_name and _last_part(base_name) not in accepted_names:
        problems.append(
            f"it is for {_named(base_name)}, "
            f"the bundle was made from {' or '.join(sorted(accepted_names))}"
        )
    if problems:
        raise ExportError(
            f"{path} does not fit the bundle: {'; '.join(problems)}", _hint(config, problems)
        )
    stored = _floats(path / WEIGHTS, 8 * bundle.plan.buffer_bytes("state"))
    wanted = {
        f"{PREFIX}{slot.module}.lora_{part.upper()}.weight": (slot.state_name(part), shape)
        for slot in slots
        for part, shape in slot.shapes.items()
    }
    _check_names(set(stored), set(wanted), path)
    tensors, rounded = {}, 0
    for name, (state, shape) in wanted.items():
        tensors[state], lost = _fixed_point(name, stored[name], shape)
        rounded += lost
    notes = (
        ("it was trained with dropout, and gsqc trains without",)
        if config.get("lora_dropout")
        else ()
    )
    return TakenAdapter(tensors, base_name, rounded, notes)


def _last_part(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].lower()


def _config(path: Path) -> dict[str, Any]:
    file = path / CONFIG
    if not os.path.exists(file):
        raise ExportError(
            f"{path} has no {CONFIG}", "give the directory that PEFT's save_pretrained wrote"
        )
    if not os.path.exists(path / WEIGHTS):
        pickled = os.path.exists(path / "adapter_model.bin")
        hint = (
            "adapter_model.bin is a pickle, which may run any code: save it again as safetensors"
            if pickled
            else ""
        )
        raise ExportError(
            f"{path} has no {WEIGHTS}",
            hint or "give the directory that PEFT's save_pretrained wrote",
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


def _setting_problems(config: dict[str, Any], bundle: Bundle) -> list[str]:
    """The settings that do not fit the bundle's adapter."""
    adapter = adapter_settings(bundle)
    if not isinstance(adapter, Lora):
        return [f"the bundle's adapter is {adapter.describe()}, not LoRA"]
    problems = []
    if config.get("peft_type") != "LORA":
        problems.append(f"it is a {_named(config.get('peft_type'))} adapter, not LORA")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        problems.append(f"its task is {_named(config['task_type'])}, not CAUSAL_LM")
    problems += [
        f"{key[:60]} = {_short(value)} is not supported"
        for key, value in config.items()
        if key not in _TELLING_NOTHING and value not in (None, False, "none", [], {})
    ]
    if config.get("init_lora_weights", True) not in _PLAIN_BASE:
        problems.append(
            f"init_lora_weights = {_short(config['init_lora_weights'])} changes the base's weights"
        )
    for key, name, own in (("r", "rank", adapter.rank), ("lora_alpha", "alpha", adapter.alpha)):
        if config.get(key) != own:
            problems.append(f"its {name} is {_short(config.get(key))}, the bundle's {own}")
    return problems


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _named(value: Any) -> str:
    return value[:200] if isinstance(value, str) else _short(value)


def _hint(config: dict[str, Any], problems: list[str]) -> str:
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if all("the bundle's" in p for p in problems) and type(rank) is int and type(alpha) is int:
        return f"compile the model with --adapter lora:rank={rank},alpha={alpha}"
    if len(problems) == 1 and problems[0].startswith("it is for"):
        return "if it is the same model under another name, add --any-base"
    return "a bundle takes plain LoRA: one rank and alpha, no other trained weights"


def _check_names(stored: set[str], wanted: set[str], path: Path) -> None:
    """ExportError unless the file holds exactly the tensors of the bundle's linears."""
    if stored == wanted:
        return
    parts = {
        SHORT_NAMES.get(name.removesuffix(".weight").rsplit(".", 2)[-2])
        for name in stored
        if ".lora_" in name
    }
    linears = "+".join(short for short in LINEARS if short in parts)
    missing, more = sorted(wanted - stored), sorted(stored - wanted)
    what = f"{len(missing)} are missing (first {missing[0]})" if missing else ""
    what += " and " if missing and more else ""
    what += f"{len(more)} are unknown (first {more[0][:120]})" if more else ""
    raise ExportError(
        f"the tensors of {path / WEIGHTS} are not those of the bundle's linears: {what}",
        "compile the same model with the adapter's linears: "
        f"--adapter lora:…,linears={linears or 'q+v'}",
    )


def _floats(file: Path, most_bytes: int) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a safetensors file of floats."""
    try:
        content = read_file(file, most_bytes=most_bytes + _MAXIMUM_HEADER)
        entries = deserialize(content)  # type: ignore[no-untyped-call]
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise ExportError(
                f"{file} is larger than any adapter of the bundle",
                "gsqc inspect BUNDLE shows the rank and linears that it must have",
            ) from None
        raise ExportError(f"cannot read {file}: {error.strerror}", "check the file") from None
    except SafetensorError as error:
        raise ExportError(
            f"cannot read {file}: {error}", "the file is damaged: save the adapter again"
        ) from None
    return {name: _array(file, name, entry) for name, entry in entries}


def _array(file: Path, name: str, entry: Mapping[str, Any]) -> npt.NDArray[Any]:
    kind, data = entry["dtype"], entry["data"]
    if kind in ("F64", "F32", "F16"):
        array = np.frombuffer(data, f"<f{int(kind[1:]) // 8}")
    elif kind == "BF16":
        array = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        raise ExportError(
            f"{name} of {file} has the type {kind}",
            "save the adapter in float32, float16 or bfloat16",
        )
    return array.reshape(entry["shape"])


def _fixed_point(name: str, values: npt.NDArray[Any], shape: tuple[int, int]) -> tuple[Int32, int]:
    if values.shape != shape:
        raise ExportError(
            f"{name} has shape {list(values.shape)}, the bundle's is {list(shape)}",
            "it is an adapter of another model",
        )
    if not np.isfinite(values).all():
        raise ExportError(
            f"{name} holds infinities or NaN",
            "its training diverged: take a checkpoint from before that",
        )
    if np.abs(values).max(initial=0) >= _LIMIT:
        raise ExportError(
            f"{name} holds a weight of 64 or more", "gsqc's adapters hold numbers below 64"
        )
    return to_int32(values)
