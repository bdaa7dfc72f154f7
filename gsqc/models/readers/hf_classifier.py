# SPDX-License-Identifier: Apache-2.0
"""Encoders that classify texts: an object in memory, or a directory of save_pretrained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gsqc.errors import ModelError
from gsqc.models.loaded import LoadedModel
from gsqc.models.readers.classifier import (
    CLASSIFIER,
    Labels,
    fresh_head,
    labels_of,
    logits_weight,
    of_other_heads,
    require_classes,
    with_labels,
)
from gsqc.models.readers.hf import from_module, loaded_directory, parameter_aliases
from gsqc.models.readers.hf_config import read_config, require_encoder
from gsqc.models.readers.meta_model import meta_classifier
from gsqc.models.readers.model_tensors import model_tensors
from gsqc.models.readers.stored_tensors import require_known, stored_tensors
from gsqc.models.readers.text_files import read_object


def classifier_from_module(model: Any, labels: Labels) -> LoadedModel:
    """As `from_module`, for a classifier of transformers: …ForSequenceClassification."""
    loaded = from_module(model)
    if not type(model).__name__.endswith(CLASSIFIER):
        raise ModelError(
            f"a {type(model).__name__} does not classify texts",
            f"give a model of transformers named …{CLASSIFIER}",
        )
    config: Any = model.config
    named = {"id2label": config.id2label}
    names = labels_of(config, named, labels)
    require_classes("the head", (int(config.num_labels),), names)
    return replace(loaded, labels=names)


def classifier_from_directory(path: Path, labels: Labels) -> LoadedModel:
    """As `from_directory`, a model that classifies texts: an encoder with a head, or without one.

    labels  as `classifier.labels_of` reads them

    Raises ModelError, OptionError.
    """
    config, files = read_config(path), stored_tensors(path)
    require_encoder(config)
    names = labels_of(config, read_object(path / "config.json"), labels)
    shapes = [tensor.shape for tensor in files.values()]
    module = meta_classifier(with_labels(config, names), shapes)
    tensors = model_tensors(module, files)
    if (last := logits_weight(module)) in tensors.shapes:
        require_classes(last, tensors.shapes[last], names)
    left = of_other_heads(tensors.unknown)
    require_known(module, path, [name for name in tensors.unknown if name not in left])
    notes = [f"{len(left)} tensors of a head for another task are not taken"] if left else []
    head = fresh_head(module, set(parameter_aliases(module)) - set(tensors.shapes))
    if head:
        notes.append(f"the files have no {', '.join(head)}: the head begins untrained")
    return replace(loaded_directory(path, module, tensors, notes, head), labels=names)
