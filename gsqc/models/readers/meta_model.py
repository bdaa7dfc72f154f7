# SPDX-License-Identifier: Apache-2.0
"""The module of a stranger's configuration, without weights.

A configuration can ask for more layers or experts than any memory holds. So what is built from it
is bounded by the tensors that the model's files have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
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
MOST_IN_BUFFER = 1 << 24
"""Numbers of a buffer that is filled: a mask of 4096 tokens."""
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
    buffers that the model fills itself, as the factor of an embedding. The rest has none.

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
            else:
                _fill_buffers(module, initialise)
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


def _fill_buffers(module: nn.Module, initialise: Callable[[nn.Module], Any]) -> None:
    """Give buffers the numbers that `initialise` fills them with. Others stay without numbers."""
    known = dict(module.named_buffers(recurse=False))
    buffers = {n: b for n, b in known.items() if b.is_meta and b.numel() <= MOST_IN_BUFFER}
    if not buffers:
        return
    stored = buffers.keys() - module._non_persistent_buffers_set
    filled: list[dict[str, torch.Tensor]] = []
    # Numbers that do not depend on what was there before were filled in.
    for before in (0, 1):
        for name, buffer in buffers.items():
            place = torch.full(buffer.shape, before, dtype=buffer.dtype)
            setattr(module, name, nn.Buffer(place, persistent=name in stored))
        initialise(module)  # what is on the meta device stays there
        filled.append({name: getattr(module, name) for name in buffers})
    first, second = filled
    for name, buffer in buffers.items():
        if not torch.equal(first[name], second[name]):
            number = getattr(module, f"_{name}_scalar", None)
            place = buffer if number is None else torch.tensor(float(number))
            setattr(module, name, nn.Buffer(place, persistent=name in stored))


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
