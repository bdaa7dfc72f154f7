# SPDX-License-Identifier: Apache-2.0
"""The module of a stranger's configuration, without weights.

A configuration can ask for more layers or experts than any memory holds. So what is built from it
is bounded by the tensors that the model's files have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from gsqc.errors import ModelError
from gsqc.models.readers.text_files import first_line

MAXIMUM_COUNT = 1 << 20
"""Of layers, experts, heads and labels. transformers makes lists of some of them."""
_COUNTS = ("num_", "n_")
_PARTS_PER_TENSOR, _MORE_PARTS = 16, 256
Shape = tuple[int, ...]


def check_counts(content: Any, file: str) -> None:
    """ModelError if a count in the JSON data of a configuration is too large to be one."""
    waiting = [("", content)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [("n_", part) for part in value]
        elif (
            isinstance(value, int)
            and value > MAXIMUM_COUNT
            and (key.startswith(_COUNTS) or "layer" in key)
        ):
            name = "a list" if key == "n_" else key
            raise ModelError(f"{file} has a number in {name} that is too large", "fetch it again")


def meta_model(config: Any, stored: Collection[Shape]) -> nn.Module:
    """The causal language model of a configuration. Its rotary embedding has numbers, and so have
    buffers of one number, as the factor of an embedding; the rest has none.

    stored  the shapes of the tensors that the model's files have

    Raises ModelError.
    """
    from transformers import AutoModelForCausalLM

    return _meta_model(AutoModelForCausalLM, config, stored)


def meta_classifier(config: Any, stored: Collection[Shape]) -> nn.Module:
    """As `meta_model`, for a model that classifies texts."""
    from transformers import AutoModelForSequenceClassification

    return _meta_model(AutoModelForSequenceClassification, config, stored)


def meta_wrapper(config: Any, stored: Collection[Shape]) -> nn.Module:
    """As `meta_model`, for a model around a language model, which sees images too."""
    from transformers import AutoModelForImageTextToText

    return _meta_model(AutoModelForImageTextToText, config, stored, has_frequencies=False)


def _meta_model(
    auto: Any, config: Any, stored: Collection[Shape], *, has_frequencies: bool = True
) -> nn.Module:
    try:
        with torch.device("meta"), _bounded(_PARTS_PER_TENSOR * len(stored) + _MORE_PARTS):
            model: nn.Module = auto.from_config(
                config, dtype=torch.float32, trust_remote_code=False
            )
        _require_frequencies(model, stored)
        initialise: Any = model._init_weights
        for name, module in list(model.named_modules()) if has_frequencies else ():
            if _frequencies(module):
                model.set_submodule(name, type(module)(config=config))
            elif _give_numbers_a_place(module):
                initialise(module)  # what is on the meta device stays there
    except ModelError:
        raise
    except Exception as error:  # transformers raises errors of many types
        raise ModelError(
            f"transformers cannot build the model: {first_line(error)}",
            "gsqc compiles causal language models of transformers without code of their own",
        ) from error
    return model.eval()


@contextlib.contextmanager
def _bounded(most: int) -> Iterator[None]:
    """Raise ModelError when more than `most` modules and parameters are made inside."""
    made = 0

    def count(module: nn.Module, name: str, part: Any) -> None:
        nonlocal made
        made += 1
        if made > most:
            raise ModelError(
                "the model's configuration asks for more layers than its files have tensors for",
                "the configuration and the tensors are of two models: fetch both again",
            )

    hooks = [
        register_module_module_registration_hook(count),
        register_module_parameter_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _frequencies(module: nn.Module) -> list[torch.Tensor]:
    """The buffers of a rotary embedding."""
    buffers = module.named_buffers(recurse=False)
    return [buffer for name, buffer in buffers if name.endswith("inv_freq")]


def _give_numbers_a_place(module: nn.Module) -> bool:
    """Give buffers of one number memory; whether there are any."""
    numbers = [n for n, b in module.named_buffers(recurse=False) if b.is_meta and b.numel() == 1]
    for name in numbers:
        setattr(module, name, nn.Buffer(torch.zeros(()), persistent=False))
    return bool(numbers)


def _require_frequencies(model: nn.Module, stored: Collection[Shape]) -> None:
    """ModelError if rotary frequencies, which are made next, are more than a stored tensor has."""
    largest = max((size for shape in stored for size in shape), default=0)
    for module in model.modules():
        for frequencies in _frequencies(module):
            if frequencies.numel() > largest:
                raise ModelError(
                    f"the model's configuration asks for heads of {2 * frequencies.numel()} "
                    "numbers",
                    "the configuration and the tensors are of two models: fetch both again",
                )
