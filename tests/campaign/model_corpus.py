# SPDX-License-Identifier: Apache-2.0
"""A small valid model of every form that gsqc reads beside the plain ones of `corpus`.

gguf/NAME.gguf  a file of each architecture
parts/          a file in three parts
spm.gguf        a file whose tokenizer is SentencePiece's
seen/           a model that sees
older/          a directory with vocab.json and merges.txt
sentences/      a directory with tokenizer.model
mixtral/        a directory of a mixture of experts, and qwen3_moe/ of another one
encoder/        a directory of an encoder that classifies, and headless/ of one without a head
adapters/       bundles with each kind of adapter beside LoRA
labelled/       texts with labels
classifier.gsqc, classified/  a bundle and a run that were made of them
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.campaign.corpus import gsqc
from tests.encoders import encoder_directory
from tests.models.readers.convert import tiny_model, write_model
from tests.models.readers.older_tokenizer import write_older_tokenizer
from tests.models.readers.test_gguf_architectures import CASES
from tests.word_tokenizer import WORDS

ADAPTERS = {
    "loldu": "rank=4,alpha=4,linears=q",
    "miss": "rank=16,linears=q",
    "paca": "rank=4,linears=q",
    "peqa": "linears=q",
    "road": "group=16,linears=q",
}
"""Kinds of adapters beside LoRA, and their settings."""
PART = "parts/a-0000{}-of-00003.gguf"
EXPERTS = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
}
"""Mixtures of experts, and what their configurations say of those."""
ENCODER, HEADLESS, LABELLED = "encoder", "headless", "labelled"
CLASSIFIER, CLASSIFIED, TEXTS = "classifier.gsqc", "classified", f"{LABELLED}/a.jsonl"
CLASSIFY = (ENCODER, "--task", "classify", "--seq", "16", "--batch", "2")
"""What compiles the classifier."""
_LABELS = ("bad", "good", "neither")
_TEXTS = [(f"the film is {word}", k % 3) for k, word in enumerate(WORDS)]


def architectures() -> list[str]:
    """The names of the files, without the suffix."""
    return [case.replace(" ", "-") for case in CASES]


def write_models(root: Path) -> None:
    """Write all of them into the corpus, whose `model` is there."""
    (root / "gguf").mkdir()
    for case, name in zip(CASES.values(), architectures(), strict=True):
        path = root / "gguf" / f"{name}.gguf"
        model = tiny_model(case.model_type, **case.settings)
        write_model(model, case.architecture, path, case.values, None, case.further)
    _write_parts(root / "parts")
    _write_sentence_pieces(root / "spm.gguf")
    _write_seen(root)
    _write_older(root / "older")
    _write_sentences(root)
    for model_type, settings in EXPERTS.items():
        model = tiny_model(model_type, num_hidden_layers=1, **settings)
        model.save_pretrained(root / model_type)
        shutil.copy(root / "model/tokenizer.json", root / model_type)
    _write_classifier(root)
    (root / "adapters").mkdir()
    for kind, settings in ADAPTERS.items():
        how = ("--adapter", f"{kind}:{settings}", "--seq", "8", "--target", "numpy")
        gsqc("compile", "model", "-o", f"adapters/{kind}.gsqc", *how)


def _write_parts(folder: Path) -> None:
    folder.mkdir()
    case = CASES["qwen2"]
    write_model(tiny_model("qwen2"), "qwen2", folder / "a.gguf", case.values, part_tensors=20)
    assert len(list(folder.glob("a-*.gguf"))) == 3


def _write_sentence_pieces(path: Path) -> None:
    from tests.models.readers.test_scored_pieces import write

    write(path, bos_token_id=1, eos_token_id=2, add_bos_token=True)


def _write_seen(root: Path) -> None:
    from tests.models.readers.test_wrappers import write

    write("llava", root / "seen")
    shutil.copy(root / "model/tokenizer.json", root / "seen")


def _write_older(folder: Path) -> None:
    folder.mkdir()
    size = {"vocab_size": write_older_tokenizer(folder, 280), "eos_token_id": 0}
    tiny_model("gpt2", n_inner=96, num_hidden_layers=1, **size).save_pretrained(folder)


def _write_sentences(root: Path) -> None:
    """What stands in tokenizer.model is no matter: the library that reads it may be missing."""
    shutil.copytree(root / "model", root / "sentences")
    (root / "sentences/tokenizer.json").unlink()
    pieces = [f"\n\x0e\n\x05\xe2\x96\x81{c}b\x15\0\0\x80\xbf" for c in "acdef"]
    (root / "sentences/tokenizer.model").write_bytes("".join(pieces).encode("latin-1"))
    (root / "sentences/tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer"})
    )


def _write_classifier(root: Path) -> None:
    """Encoders, texts, and what gsqc makes of them in `root`, the working directory."""
    named = {"id2label": dict(enumerate(_LABELS)), "num_hidden_layers": 1}
    encoder_directory(root / ENCODER, **named)
    encoder_directory(root / HEADLESS, "Model", num_hidden_layers=1)
    (root / LABELLED).mkdir()
    records = [{"text": text, "label": label} for text, label in _TEXTS]
    (root / TEXTS).write_text("".join(json.dumps(record) + "\n" for record in records))
    lines = ["text,label", *(f'"{text}",{_LABELS[label]}' for text, label in _TEXTS)]
    (root / LABELLED / "a.csv").write_text("\n".join(lines) + "\n")
    gsqc("compile", *CLASSIFY, "-o", CLASSIFIER)
    how = ("--steps", "2", "--lr", "1e-2", "--validation", "30%", "--eval-every", "1")
    gsqc("train", CLASSIFIER, "--data", TEXTS, *how, "--run", CLASSIFIED)
