# SPDX-License-Identifier: Apache-2.0
"""fit_own_class: an adapter of a class of PEFT that does what a kind of gsqc's does.

The kind's own `to_peft` says which settings and tensors the class has, and `from_peft` is its
inverse. So an adapter that gsqc exported comes back bit for bit. Settings that gsqc's kind does not
have are refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from gsqc.adapters import adapter_kinds
from gsqc.adapters.adapter import PeftForm
from gsqc.adapters.several import describe
from gsqc.bundle.base import in_first_layer
from gsqc.errors import ExportError
from gsqc.export.adapter import Slot
from gsqc.export.fixed_point import Int32
from gsqc.export.foreign.absent import absent_note
from gsqc.export.foreign.find import FoundAdapter
from gsqc.export.foreign.fit import (
    FittedAdapter,
    integers,
    require_linears,
    require_shape,
)
from gsqc.export.foreign.floats import read_floats
from gsqc.export.foreign.pairs import MERGE, Floats, named, short
from gsqc.export.peft import PREFIX

_TELLING_NOTHING = {
    *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path"),
    *("revision", "inference_mode", "target_modules", "exclude_modules", "layers_pattern"),
    *("layers_to_transform", "fan_in_fan_out", "mini_r"),
}
"""Settings that the tensors show too, or that change nothing. mini_r has a meaning with another
value of init_weights alone, and that is refused.
"""


@cache
def _kinds() -> dict[str, str]:
    """A kind of gsqc for each class of PEFT."""
    return {kind.peft_type: name for name, kind in adapter_kinds().items() if kind.peft_type}


def has_own_class(found: FoundAdapter) -> bool:
    """Whether the files are PEFT's, of a class that a kind of gsqc stands for."""
    kind = found.config.get("peft_type")
    return found.kind == "peft" and isinstance(kind, str) and kind in _kinds()


def base_name_of_class(found: FoundAdapter) -> str:
    """The base model that the settings name, or nothing."""
    name = found.config.get("base_model_name_or_path")
    return name if isinstance(name, str) else ""


def fit_own_class(
    found: FoundAdapter, slots: list[Slot], weights: Collection[str], most_bytes: int
) -> FittedAdapter:
    """The state of a bundle with `slots` whose adapter is that of the files.

    weights  the names of the model's weights

    Raises ExportError: another kind, other settings, linears that the bundle's adapter is not on,
    another model's shapes, numbers that are not finite or too large.
    """
    peft_type = found.config["peft_type"]
    taking = {s.module: s for s in slots if s.settings.peft_type == peft_type}
    if not taking:
        settings = describe(dict.fromkeys(slot.settings for slot in slots))
        raise ExportError(
            f"{found.weights.parent} is PEFT's {peft_type}, and the bundle's adapter is {settings}",
            f"compile the model with --adapter {_kinds()[peft_type]}",
        )
    given = _by_module(read_floats(found.weights, most_bytes))
    if not given:
        raise ExportError(f"{found.weights} holds no adapter", "save the adapter again")
    require_linears(given, f"a {peft_type}", MERGE["peft"], list(taking.values()), weights)
    tensors: dict[str, Int32] = {}
    rounded = 0
    for module, own in given.items():
        slot = taking[module]
        form = _form(slot)
        _require_settings(found, slot, form)
        if form.of_bias and in_first_layer(f"{module}.bias") in weights:
            raise ExportError(
                f"{module} has a bias, which PEFT's {peft_type} changes and gsqc's does not",
                MERGE["peft"],
            )
        for name, values in _matrices(slot, form, own).items():
            numbers, lost = integers(f"{name} of {module}", values)
            tensors[slot.state_name(name)] = numbers.reshape(-1)
            rounded += lost
    notes = [*_dropout(found.config), *filter(None, [absent_note(given, slots)])]
    return FittedAdapter(tensors, rounded, tuple(notes))


def _form(slot: Slot) -> PeftForm:
    """What the class has for a linear: its settings, and tensors of the right shapes."""
    form = slot.settings.to_peft({name: np.zeros(shape) for name, shape in slot.shapes.items()})
    assert form is not None, f"{slot.settings.kind} names a class of PEFT and has no form for it"
    return form


def _by_module(tensors: Mapping[str, Floats]) -> dict[str, dict[str, Floats]]:
    """The tensors of each linear by what their names end with."""
    given: dict[str, dict[str, Floats]] = {}
    for name, values in tensors.items():
        module, _, end = name.removeprefix(PREFIX).rpartition(".")
        given.setdefault(module, {})[end] = values
    return given


def _matrices(slot: Slot, form: PeftForm, own: Mapping[str, Floats]) -> dict[str, Any]:
    """The matrices of a linear, from its tensors."""
    if own.keys() != form.tensors.keys():
        held, needed = (", ".join(sorted(names))[:120] for names in (own, form.tensors))
        raise ExportError(
            f"{slot.module} has the tensors {held}, and {slot.settings.peft_type} needs {needed}",
            "save the adapter again, alone",
        )
    for end, expected in form.tensors.items():
        require_shape(f"{end} of {slot.module}", own[end].shape, expected.shape)
    return slot.settings.from_peft({end: t.astype(np.float64) for end, t in own.items()})


def _require_settings(found: FoundAdapter, slot: Slot, form: PeftForm) -> None:
    """ExportError with every setting that gsqc's kind does not have."""
    problems = list(_problems(found.config, form.settings))
    if problems:
        raise ExportError(
            f"{found.weights.parent} does not fit {slot.settings.describe()}: "
            f"{', '.join(problems)}",
            f"compile the model with another --adapter {slot.settings.kind}, or {MERGE['peft']}",
        )


def _problems(config: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        yield f"its task is {named(config['task_type'])}, not CAUSAL_LM"
    for key, value in own.items():
        given = config.get(key)
        # A truth value there says how the tensors begin, and another one what they mean.
        says_how_it_begins = key.startswith("init_") and type(given) is bool
        if not says_how_it_begins and (given or value) and given != value:
            yield f"{key} is {short(given)} and not {short(value)}"
    for key, value in config.items():
        is_known = key in own or key in _TELLING_NOTHING or key.endswith("_dropout")
        if not is_known and value not in (None, False, "none", [], {}):
            yield f"{key[:60]} = {short(value)} is not supported"


def _dropout(config: Mapping[str, Any]) -> Iterator[str]:
    if any(value for key, value in config.items() if key.endswith("_dropout")):
        yield "it was trained with dropout, and gsqc trains without"
