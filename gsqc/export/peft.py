# SPDX-License-Identifier: Apache-2.0
"""write_peft: writes the adapter as the directory that Hugging Face's PEFT loads.

It needs neither torch nor peft.

adapter_config.json        rank, alpha, the last part of each linear's name, the base model's name.
                           Of an adapter that PEFT has a class for: its settings.
                           rank_pattern and alpha_pattern name the linears whose LoRA has another
                           rank or alpha
README.md                  the form of a prompt
chat_template.jinja        a chat template that makes this form
adapter_model.safetensors  float32 matrices of each linear, which has n outputs and k inputs:
                           base_model.model.<module>.lora_A.weight [rank, k]
                           base_model.model.<module>.lora_B.weight [n, rank]
                           or the tensors of the adapter's own class

A classifier's head is not in these. It is stored whole, with the adapter merged into it, as PEFT
stores modules_to_save.

A bundle holds the rows of q and k in Hugging Face's order, whatever file the base came from.
So no row moves here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from gsqc.adapters.adapter import Adapter
from gsqc.adapters.linears import module_name
from gsqc.errors import ExportError
from gsqc.export.adapter import TrainedAdapter, fits_settings
from gsqc.export.classifier_head import SavedHead
from gsqc.export.place import new_directory
from gsqc.export.prompts import PAGE, TEMPLATE_FILE, TrainedPrompts, page
from gsqc.files.writing import write_new

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
_MERGE = "export the merged model with --merged"
Floats = npt.NDArray[Any]
CONV1D = ("gpt2",)
"""Architectures whose linears are transformers' Conv1D, which stores [inputs, outputs]."""
PROGRAMS = ("onnx", "pt2")
"""What stands for the architecture if a bundle's linears have no family's names."""


@dataclass(frozen=True)
class PeftFiles:
    """What a PEFT directory holds: its settings without the base's name, and its tensors."""

    settings: dict[str, Any]
    tensors: dict[str, Floats]


def peft_files(adapter: TrainedAdapter, head: SavedHead | None = None) -> PeftFiles:
    """The adapter as PEFT has it: as LoRA if it is of that form, else as its own class.

    head  that of a classifier, which has the adapter of its linears in it

    Raises ExportError if PEFT has no such adapter, if it changes a head alone, or if the linears
    have names that no family has.
    """
    if adapter.architecture in PROGRAMS:
        raise ExportError(
            f"the bundle comes from an .{adapter.architecture} file of an unknown family, and no "
            "model of transformers has the names of its linears",
            "put the config.json of the model beside the file and compile it again. If that was "
            "done, the file has other matrices than the family: compile its directory",
        )
    whole = {} if head is None else head.tensors
    of_layers = tuple(x for x in adapter.linears if f"{x.module}.weight" not in whole)
    if not of_layers:
        raise ExportError(
            "the adapter changes the classifier's head alone, and PEFT's needs a layer",
            _MERGE,
        )
    adapter = replace(adapter, linears=of_layers)
    is_lora = not any(one.peft_type for one in adapter.adapters())
    settings, tensors = _of_lora(adapter) if is_lora else _of_its_class(adapter)
    tensors |= {f"{PREFIX}{name}": numbers for name, numbers in whole.items()}
    common = {
        "task_type": "CAUSAL_LM" if head is None else "SEQ_CLS",
        "target_modules": sorted({module_name(linear.linear) for linear in adapter.linears}),
        "inference_mode": True,
        "modules_to_save": None if head is None else list(head.modules),
    }
    return PeftFiles({**settings, **common}, tensors)


def _of_its_class(adapter: TrainedAdapter) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Settings and tensors of the adapter's own class in PEFT."""
    tensors: dict[str, Floats] = {}
    found: dict[Adapter, dict[str, Any]] = {}
    for linear in adapter.linears:
        with fits_settings(linear):
            form = linear.settings.to_peft(linear.exact())
        if form is None:
            raise _of_two_classes(adapter)
        kind = linear.settings.peft_type
        if form.of_bias and linear.has_bias:
            raise ExportError(
                f"{linear.module} has a bias, which PEFT's {kind} changes and gsqc's does not",
                _MERGE,
            )
        found[linear.settings] = {"peft_type": kind, **form.settings}
        tensors |= {f"{PREFIX}{linear.module}.{n}": _stored(t) for n, t in form.tensors.items()}
    first, *others = found.values()
    if any(other != first for other in others):
        raise _of_two_classes(adapter)
    return first, tensors


def _of_two_classes(adapter: TrainedAdapter) -> ExportError:
    """The error of a run whose adapters PEFT has no common class for."""
    return ExportError(
        f"PEFT has no class that is all of {adapter.describe()}: a directory has one class and its "
        "settings",
        _MERGE,
    )


def _stored(tensor: Any) -> Floats:
    """In float32 where that is exact, else in float64. PEFT loads both, and `gsqc import` gets back
    what was trained.
    """
    exact = np.ascontiguousarray(tensor, np.float64)
    rounded = exact.astype(np.float32)
    return rounded if (rounded == exact).all() else exact


def _of_lora(adapter: TrainedAdapter) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Settings and tensors of a plain LoRA adapter. PEFT has defaults for all other fields."""
    pairs = adapter.as_lora()
    tensors: dict[str, Floats] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, int] = {}
    for linear, form in pairs:
        tensors[f"{PREFIX}{linear.module}.lora_A.weight"] = form.a
        tensors[f"{PREFIX}{linear.module}.lora_B.weight"] = form.b
        name = module_name(linear.linear)
        ranks[name], alphas[name] = len(form.a), form.alpha
    rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    settings = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": adapter.architecture in CONV1D,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
        "rank_pattern": _pattern(ranks),
        "alpha_pattern": _pattern(alphas),
    }
    return settings, tensors


def _pattern(values: dict[str, int]) -> dict[str, int]:
    """The numbers by the ends of the linears' names, or nothing if all have the same."""
    # PEFT takes the first name that a module ends with: attention.output.dense before output.dense.
    longest_first = sorted(values, key=len, reverse=True)
    return {name: values[name] for name in longest_first} if len(set(values.values())) > 1 else {}


def write_peft(
    adapter: TrainedAdapter,
    base_name: str,
    path: Path,
    prompts: TrainedPrompts,
    head: SavedHead | None = None,
) -> None:
    """Write the directory `path`. A classifier has a head. Raises ExportError as `peft_files` does,
    and then `path` is as it was.
    """
    files = peft_files(adapter, head)
    about = f"{adapter.describe()}, {adapter.steps} steps, trained with gsqc"
    with new_directory(path) as work:
        write_new(work / WEIGHTS, save(files.tensors, {"format": "pt"}))
        config = json.dumps({"base_model_name_or_path": base_name, **files.settings}, indent=2)
        write_new(work / CONFIG, f"{config}\n")
        kind = files.settings["peft_type"].replace("LORA", "LoRA")
        write_new(work / PAGE, page(prompts, f"{kind} of {base_name}", base_name, "peft", about))
        if prompts.shown_template is not None:
            write_new(work / TEMPLATE_FILE, prompts.shown_template)
