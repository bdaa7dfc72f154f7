# SPDX-License-Identifier: Apache-2.0
"""A small valid model of every form that gsqc reads beside the plain ones of `corpus`.

gguf/NAME.gguf  a file of each architecture
parts/          a file in three parts
spm.gguf        a file whose tokenizer is SentencePiece's
seen/           a model that sees
older/          a directory with vocab.json and merges.txt
sentences/      a directory with tokenizer.model
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.models.readers.convert import tiny_model, write_model
from tests.models.readers.older_tokenizer import write_older_tokenizer
from tests.models.readers.test_gguf_architectures import CASES

PART = "parts/a-0000{}-of-00003.gguf"


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
