# SPDX-License-Identifier: Apache-2.0
"""Directories of encoders: the names of labels, heads that are there or begin untrained, and what
is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from gsqc.errors import GsqcError, ModelError, OptionError
from gsqc.models import load_classifier, load_model
from gsqc.models.capture import capture_loaded, capture_model, run_float
from gsqc.models.labels import require_labels
from tests.encoders import build_encoder, encoder_directory

NAMES = {0: "no", 1: "maybe, or so", 2: "yes"}


def test_a_trained_head_keeps_its_labels_and_weights(tmp_path: Path) -> None:
    named = {"id2label": NAMES, "label2id": {name: k for k, name in NAMES.items()}}
    loaded = load_classifier(encoder_directory(tmp_path / "m", **named))
    assert loaded.labels == tuple(NAMES.values())
    tokens = torch.arange(4, 20)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "m")
    expected = model(input_ids=tokens[None]).logits[0]
    found = run_float(capture_loaded(loaded, 16), tokens)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_labels_may_get_other_names(tmp_path: Path) -> None:
    place = encoder_directory(tmp_path / "m")
    assert load_classifier(place, "a,b,c").labels == ("a", "b", "c")
    assert load_classifier(place, "3").labels == ("0", "1", "2")


@pytest.mark.parametrize("kind", ["Model", "ForMaskedLM"])
def test_a_head_that_is_not_there_begins_at_zero(tmp_path: Path, kind: str) -> None:
    loaded = load_classifier(encoder_directory(tmp_path / "m", kind), "2")
    weight = loaded.weights.float32("classifier.weight")
    assert weight.shape == (2, 64)
    assert not weight.any()
    assert "the head begins untrained" in loaded.metadata["notes"][-1]
    if kind == "ForMaskedLM":  # it has no pooler either, and a head for masked words
        pooler = loaded.weights.float32("bert.pooler.dense.weight")
        assert 0.5 < np.abs(pooler).max() * 64**0.5 <= 1
        assert "tensors of a head for another task are not taken" in loaded.metadata["notes"][0]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("", "config.json does not name classes"),
        ("1", "--labels 1"),
        ("5000", "--labels 5000"),
        ("yes", "1 labels are named"),
        ("no,no", "two labels are named 'no'"),
        ("no,", "the name of a label is empty"),
    ],
)
def test_labels_that_are_missing_or_make_no_sense(tmp_path: Path, labels: str, told: str) -> None:
    place = encoder_directory(tmp_path / "m", "Model", num_labels=2)
    with pytest.raises(OptionError) as error:
        load_classifier(place, labels)
    assert told in str(error.value)


def test_a_head_of_another_number_of_labels(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is of 3 classes, and 2 are named"):
        load_classifier(encoder_directory(tmp_path / "m"), "no,yes")
    with pytest.raises(ModelError, match="is of 3 classes, and 2 are named"):
        load_classifier(build_encoder("bert"), "no,yes")


def test_decoders_and_files_are_refused(model_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="llama is no encoder"):
        load_classifier(model_directory, "2")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="--task classify takes a directory"):
        load_classifier(tmp_path / "m.gguf", "2")


def test_an_encoder_is_no_language_model(tmp_path: Path) -> None:
    """It would read the word that it is to say."""
    with pytest.raises(ModelError, match="bert is an encoder") as error:
        load_model(encoder_directory(tmp_path / "m"))
    assert "--task classify" in str(error.value.hint)
    model: Any = transformers.BertLMHeadModel(build_encoder("bert").config)
    with pytest.raises(GsqcError, match="attention that is not causal"):
        capture_model(model, 16)


def test_labels_are_names_with_commas_between_or_their_number() -> None:
    assert require_labels(" no , yes ") == ("no", "yes")
    assert require_labels("3") == ("0", "1", "2")
