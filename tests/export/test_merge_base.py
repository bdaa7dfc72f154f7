# SPDX-License-Identifier: Apache-2.0
"""Whether a model is the one that a bundle was compiled from, also where layers differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gsqc.bundle.base import in_first_layer
from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import ModelPart
from gsqc.errors import ExportError
from gsqc.export.merge import open_base
from gsqc.models import load_classifier
from gsqc.models.base_codes import base_codes
from tests.encoders import HIDDEN, LAYERS, VOCABULARY, build_encoder
from tests.runtime.small_bundle import write_bundle

LABELS = tuple("abc")


def _bundle(path: Path, model: Path, name: str) -> Bundle:
    """A bundle with the codes of all parameters that stand in layers."""
    loaded = load_classifier(str(model), LABELS)
    kinds: dict[str, str] = {}
    base: dict[str, Any] = {}
    for parameter, value in loaded.module.named_parameters():
        if "layer" not in parameter:
            continue
        kind = "row16" if value.ndim == 1 else "nf4"
        kinds[in_first_layer(parameter)] = kind
        for key, array in base_codes(loaded.weights, parameter, kind).arrays.items():
            base[f"{parameter}.{key}"] = np.ascontiguousarray(array.reshape(-1))
    part = ModelPart(name, LAYERS, HIDDEN, 4, 4, VOCABULARY, labels=LABELS)
    return Bundle.open(write_bundle(path, model=part, base_kinds=kinds, tensors=base))


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_the_model_of_a_bundle_is_known_and_another_is_not(name: str, tmp_path: Path) -> None:
    """ModernBERT's first layer has no norm before attention, and the others have one."""
    model, other = build_encoder(name), tmp_path / "other"
    model.save_pretrained(tmp_path / "model")
    bundle = _bundle(tmp_path / "b.gsqc", tmp_path / "model", name)
    open_base(bundle, str(tmp_path / "model"))
    last = f".{LAYERS - 1}."
    value = next(p for n, p in model.named_parameters() if last in n and p.ndim == 1)
    with torch.no_grad():
        value += 1
    model.save_pretrained(other)
    with pytest.raises(ExportError, match="is not the model that the bundle was compiled from"):
        open_base(bundle, str(other))
