# SPDX-License-Identifier: Apache-2.0
"""The tensors of a model's files under the model's own names, as transformers loads them.

Files keep names of the time when they were written. transformers has rules for each kind of model:
most rename (GPT-NeoX's embed_out is lm_head), some compute (the matrices of all experts become one
tensor). Both are applied here, the latter when a tensor is read. So no more than the parts of one
tensor are in memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from gsqc.errors import ModelError
from gsqc.models.readers.stored_tensors import FLOATS, StoredTensor, opened
from gsqc.models.readers.text_files import first_line

Shape = tuple[int, ...]
_LONGEST_NAME = 512


@dataclass
class _Conversion:
    """Stored tensors that become one or several of the model's.

    rule   transformers' WeightConverter, which is copied for each use
    first  the model's name that transformers' rule gives
    parts  the rule's pattern and the stored name, in the order in which the rule takes them
    """

    rule: Any
    first: str
    parts: list[tuple[str, str]] = field(default_factory=list)

    def run(self, module: nn.Module, read: Callable[[str], torch.Tensor]) -> dict[str, Any]:
        """The model's tensors by name, from what `read` gives for the stored names."""
        rule = copy.deepcopy(self.rule)
        for pattern, name in self.parts:
            rule.add_tensor(self.first, name, pattern, read(name))
        made = rule.convert(self.first, model=module, config=module.config)
        return {name: part[0] if isinstance(part, list) else part for name, part in made.items()}


@dataclass
class ModelTensors:
    """Tensors by the model's names.

    shapes   of each, by name
    unknown  stored names that the model has no place for
    """

    files: Mapping[str, StoredTensor]
    module: nn.Module
    shapes: dict[str, Shape] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    _stored: dict[str, str] = field(default_factory=dict)
    _made: dict[str, _Conversion] = field(default_factory=dict)
    _last: tuple[_Conversion, dict[str, torch.Tensor]] | None = None
    _own_names: dict[str, str] = field(default_factory=dict)

    def read(self, name: str) -> torch.Tensor:
        """The tensor in float32."""
        own = self._own_names.get(name, name)
        if own in self._stored:
            return self._read_stored(self._stored[own])
        conversion = self._made[own]
        if self._last is None or self._last[0] is not conversion:
            self._last = conversion, conversion.run(self.module, self._read_stored)
        return self._last[1][own]

    def _read_stored(self, name: str) -> torch.Tensor:
        with opened(self.files[name].file) as file:
            tensor: torch.Tensor = file.get_tensor(name).to("cpu", torch.float32)
        return tensor

    def part(self, rename: Callable[[str], str | None]) -> ModelTensors:
        """The tensors that `rename` gives a name, under that name."""
        names = {name: new for name in self.shapes if (new := rename(name)) is not None}
        part = copy.copy(self)
        part.shapes = {new: self.shapes[name] for name, new in names.items()}
        part._own_names = {new: self._own_names.get(name, name) for name, new in names.items()}
        return part

    def add_stored(self, name: str, stored: str) -> None:
        """A tensor that is in the files as it is. ModelError if another one has its name."""
        if (other := self._stored.get(name)) is not None:
            raise ModelError(
                f"{other} and {stored} are both {name} of the model",
                "keep the tensor that belongs to the model, and remove the other",
            )
        self._stored[name] = stored
        self.shapes[name] = self.files[stored].shape

    def add_conversion(self, conversion: _Conversion) -> None:
        """Tensors that are computed from stored ones. ModelError if they do not fit together."""

        def empty(name: str) -> torch.Tensor:
            return torch.empty(self.files[name].shape, device="meta")

        try:
            shapes = {n: tuple(t.shape) for n, t in conversion.run(self.module, empty).items()}
        except Exception as error:  # transformers raises errors of many types
            raise ModelError(
                f"{len(conversion.parts)} tensors do not make {conversion.first}: "
                f"{first_line(error)}",
                "the files are incomplete: fetch them again",
            ) from error
        self.shapes |= shapes
        self._made |= dict.fromkeys(shapes, conversion)


def model_tensors(module: nn.Module, files: Mapping[str, StoredTensor]) -> ModelTensors:
    """The stored tensors under the names that they have in `module`. Raises ModelError."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    mapping: Any = get_model_conversion_mapping(module)
    renames = [rule for rule in mapping if isinstance(rule, WeightRenaming)]
    rules = [rule for rule in mapping if isinstance(rule, WeightConverter)]
    by_pattern = {pattern: rule for rule in rules for pattern in rule.source_patterns}
    known, prefix = module.state_dict(), getattr(module, "base_model_prefix", None)
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    tensors = ModelTensors(files, module)
    conversions: dict[str, _Conversion] = {}
    for stored in sorted(files, key=dot_natural_key):
        if len(stored) > _LONGEST_NAME:  # no parameter's, and a stranger's may cost a pattern hours
            tensors.unknown.append(stored)
            continue
        name, pattern = rename_source_key(stored, renames, rules, prefix, known)
        if name not in known and stored in known:
            name, pattern = stored, None
        if name not in known:
            tensors.unknown.append(stored)
        elif name in parameters and files[stored].type not in FLOATS:
            raise ModelError(
                f"{stored} is stored as {files[stored].type}: the checkpoint is quantised",
                "give the float checkpoint, or a GGUF file: its codes are kept",
            )
        elif pattern is None:
            tensors.add_stored(name, stored)
        else:
            made = conversions.setdefault(name, _Conversion(by_pattern[pattern], name))
            made.parts.append((pattern, stored))
    for conversion in conversions.values():
        tensors.add_conversion(conversion)
    return tensors
