# SPDX-License-Identifier: Apache-2.0
"""A classifier from a directory to a merged model: bits, training, accuracy, answers, refusals."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

import gsqc
from gsqc.check.sequences import random_step
from gsqc.errors import OptionError
from gsqc.runtime.session import Session
from tests.cli.run_command import Capture, run_json, run_text
from tests.encoders import encoder_directory
from tests.word_tokenizer import WORDS, word_tokenizer

LABELS = ("negative", "positive")
LENGTH = 16


def _records(count: int, seed: int) -> list[dict[str, str]]:
    """Texts in which one word tells the label."""
    draw = random.Random(seed)
    records = []
    for _ in range(count):
        label = draw.choice(LABELS)
        words = [draw.choice(WORDS[2:]) for _ in range(draw.randint(3, 11))]
        words.insert(draw.randrange(len(words)), "good" if label == "positive" else "bad")
        records.append({"text": " ".join(words), "label": label})
    return records


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tiny BERT without a head, and a run that has learned the words."""
    folder = tmp_path_factory.mktemp("classify")
    encoder_directory(folder / "model", "Model")
    options: dict[str, Any] = {"task": "classify", "labels": ",".join(LABELS)}
    options |= {"seq": LENGTH, "adapter": "lora:rank=4,alpha=8"}
    with pytest.warns(UserWarning, match="the head begins untrained"):
        gsqc.compile(folder / "model", folder / "b.gsqc", **options)
    how: dict[str, Any] = {"steps": 40, "lr": "0.01", "batch": 8, "progress": False}
    data, held_out = _records(300, 1), _records(40, 2)
    gsqc.train(folder / "b.gsqc", data, run=folder / "run", validation=held_out, **how)
    return folder


def test_bits_are_those_of_numpy(place: Path) -> None:
    bundle = place / "b.gsqc"
    digests = []
    for target in ("numpy", "native"):
        session = Session(bundle, target=target)
        digests.append([random_step(session, step, 0) for step in (1, 2)])
    assert digests[0] == digests[1]


def test_a_run_learns_and_its_log_has_the_accuracy(place: Path) -> None:
    entries = [json.loads(line) for line in (place / "run" / "log.jsonl").read_text().splitlines()]
    assert entries[0]["validation_loss"] == pytest.approx(np.log(2), abs=1e-4)  # a head of zeros
    assert entries[-1]["validation_accuracy"] == 1
    result = gsqc.evaluate(place / "b.gsqc", _records(30, 3), run=place / "run")
    assert (result.accuracy, result.tokens) == (1, 30)


def test_the_commands_of_a_classifier(place: Path, tmp_path: Path, capsys: Capture) -> None:
    bundle, run = str(place / "b.gsqc"), str(place / "run")
    data = tmp_path / "test.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in _records(20, 4)))
    _, out, _ = run_text(capsys, "eval", bundle, "--run", run, "--data", str(data))
    assert "accuracy 1.0000   texts 20" in out
    ask = ("classify", bundle, "--run", run, "--text")
    _, out, _ = run_text(capsys, *ask, "the film is bad")
    assert out.split()[1] == "negative"
    code, (record,) = run_json(capsys, *ask, "so very good " * 9)
    assert code == 0
    assert record["label"] == "positive"
    assert sum(record["probabilities"].values()) == pytest.approx(1)
    assert (record["tokens"], record["dropped"]) == (29, 13)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("generate", "--prompt", "film"), "is a classifier, and gsqc generate needs"),
        (("eval", "--perplexity", "x.txt"), "a classifier has no perplexity"),
        (("eval", "--data", "x.jsonl", "--form", "chat"), "are no prompts"),
        (("classify", "--text", " "), "a text to classify is empty"),
        (("export", "--run", "run", "--gguf", "p"), "as a directory, for transformers or PEFT"),
        (("export", "--run", "run", "--peft", "p"), "needs the model that the bundle"),
        (("import", "--run", "new", "--peft", "p"), "merge it with PEFT's merge_and_unload()"),
    ],
)
def test_what_is_for_language_models_is_refused(
    place: Path, capsys: Capture, command: tuple[str, ...], told: str
) -> None:
    name, *options = command
    options = [str(place / "run") if part == "run" else part for part in options]
    code, _, error = run_text(capsys, name, str(place / "b.gsqc"), *options)
    assert code
    assert told in error


def test_a_language_model_has_no_labels(bundle: Path) -> None:
    with pytest.raises(OptionError, match="makes text, and has no labels"):
        gsqc.classify(bundle, "a text")


def test_the_merged_model_gives_the_same_logits(
    place: Path, tmp_path: Path, capsys: Capture
) -> None:
    """transformers in float32 on the weights of the training.

    Measured: logits of ±10 differ by 0.2 at most, by operands of 8 bits.
    """
    merged = tmp_path / "merged"
    given = ("--run", str(place / "run"), "--merged", str(merged), "--model", str(place / "model"))
    code, _, error = run_text(capsys, "export", str(place / "b.gsqc"), *given)
    assert code == 0, error
    model = transformers.AutoModelForSequenceClassification.from_pretrained(merged)
    assert tuple(model.config.id2label.values()) == LABELS
    tokenizer, texts = word_tokenizer(), [record["text"] for record in _records(20, 5)]
    answers = gsqc.classify(place / "b.gsqc", texts, run=place / "run")
    for text, answer in zip(texts, answers, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).logits[0]
        p = [answer.probabilities[label] for label in LABELS]
        ours, theirs = np.log(p[1] / p[0]), float(logits[1] - logits[0])
        assert abs(ours - theirs) < 0.05 * abs(theirs)


def test_peft_gives_the_logits_of_the_merged_model(
    place: Path, tmp_path: Path, capsys: Capture
) -> None:
    """A head that the files lack comes from the adapter's directory whole."""
    merged, adapter = tmp_path / "merged", tmp_path / "peft"
    given = ("--run", str(place / "run"), "--merged", str(merged), "--peft", str(adapter))
    base = ("--model", str(place / "model"), "--base", "original")
    code, _, error = run_text(capsys, "export", str(place / "b.gsqc"), *given, *base)
    assert code == 0, error
    auto = transformers.AutoModelForSequenceClassification
    untrained = auto.from_pretrained(place / "model", num_labels=len(LABELS))
    theirs = peft.PeftModel.from_pretrained(untrained, adapter).eval()
    whole = auto.from_pretrained(merged).eval()
    for record in _records(5, 5):
        tokens = torch.tensor([word_tokenizer().encode(record["text"]).ids])
        with torch.no_grad():
            expected, got = whole(input_ids=tokens).logits, theirs(input_ids=tokens).logits
        assert expected.abs().max() > 1
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)  # added in another order
    assert "* positive" in (adapter / "README.md").read_text()
