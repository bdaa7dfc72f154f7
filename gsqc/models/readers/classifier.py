# SPDX-License-Identifier: Apache-2.0
"""Classifiers: the names of their classes, and the weights of a head that is not trained yet.

An encoder's own files have no head for a new task. Then the matrix that gives the logits and all
biases begin at zero, and the other matrices at random numbers that are the same everywhere. The
adapter trains them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from gsqc.errors import ModelError, OptionError
from gsqc.models.labels import MOST_LABELS, numbered, require_labels, require_names
from gsqc.numerics.ops.noise import uniform_q24

CLASSIFIER = "ForSequenceClassification"
"""How the names of classes of transformers that classify texts end."""
_HEAD = re.compile(r"(^|\.)(classifier|pre_classifier|score|head|pooler)\.")
_OTHER_HEAD = re.compile(r"^(cls|lm_head|vocab_\w+|qa_outputs|mlm\w*|generator\w*|decoder|head)\.")
_FRACTION = 2.0**-24


Labels = str | tuple[str, ...]
"""What a user says of the classes: their names, also with commas between, their number, or ""."""


def labels_of(config: Any, content: Mapping[str, Any], asked: Labels) -> tuple[str, ...]:
    """The names of the classes: those that are asked for, or those of config.json.

    content  the JSON data of config.json

    Raises OptionError.
    """
    if asked:
        return require_labels(asked) if isinstance(asked, str) else require_names(asked)
    named = content.get("id2label")
    if isinstance(named, dict) and len(named) > 1:
        return require_names([str(config.id2label[k]) for k in sorted(config.id2label)])
    count = content.get("num_labels")
    if type(count) is int and 2 <= count <= MOST_LABELS:
        return numbered(count)
    raise OptionError(
        "the model's config.json does not name classes",
        "name them in order, --labels negative,positive, or say how many there are, --labels 2",
    )


def with_labels(config: Any, labels: tuple[str, ...]) -> Any:
    """The configuration of a classifier with these classes."""
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: k for k, name in enumerate(labels)}
    config.problem_type = "single_label_classification"
    return config


def logits_weight(module: nn.Module) -> str:
    """The name of the matrix that gives a classifier's logits."""
    names = [name for name, _ in module.named_parameters() if name.endswith(".weight")]
    return names[-1]


def fresh_head(module: nn.Module, missing: Collection[str]) -> dict[str, torch.Tensor]:
    """The tensors of a head that the files lack, by name. Others of `missing` are not there."""
    parameters, last = dict(module.named_parameters()), logits_weight(module)
    found: dict[str, torch.Tensor] = {}
    for number, name in enumerate(sorted(missing)):
        if _HEAD.search(name) is None:
            continue
        shape = tuple(parameters[name].shape)
        if name.endswith(".bias") or name == last:
            found[name] = torch.zeros(shape)
        elif len(shape) == 1:
            found[name] = torch.ones(shape)
        else:
            noise = uniform_q24(0, number, shape, shape[1])
            found[name] = torch.from_numpy(noise * _FRACTION).float()
    return found


def of_other_heads(unknown: Collection[str]) -> list[str]:
    """Tensors of a head for another task, as of the masked words that an encoder learned from."""
    return [name for name in unknown if _OTHER_HEAD.match(name)]


def require_classes(name: str, shape: tuple[int, ...], labels: tuple[str, ...]) -> None:
    """ModelError if the head in the files has another number of classes."""
    if shape[0] != len(labels):
        raise ModelError(
            f"{name} is of {shape[0]} classes, and {len(labels)} are named",
            f"name {shape[0]} with --labels, or remove the head from the files to begin a new one",
        )
