# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of a model's directory, as the text of a tokenizer.json.

Older directories have vocab.json and merges.txt, or tokenizer.model. transformers converts them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gsqc.models.readers.text_files import first_line, read_object, read_text

_FILE = "tokenizer.json"
_OLDER = (("vocab.json", "merges.txt"), ("tokenizer.model",), ("tiktoken.model",))
"""Files that make a tokenizer together."""
_PROBE = "Hello world, it's 2024!  Two  spaces,\n\ttabs; ça va? 你好"
_LEAST = 2
"""Tokens of a tokenizer. transformers makes an empty one of files that it does not understand."""


def tokenizer_of(path: Path) -> tuple[str | None, str]:
    """The text of a tokenizer.json, or None, and where it came from or why there is none.

    Raises ModelError if tokenizer.json is there and damaged.
    """
    read_object(path / _FILE)
    text = read_text(path / _FILE)
    if text is not None:
        return text, _FILE
    for names in _OLDER:
        if all((path / name).is_file() for name in names):
            return _converted(path, " and ".join(names))
    return None, f"none: the directory has no {_FILE}"


def _converted(path: Path, files: str) -> tuple[str | None, str]:
    """The tokenizer that transformers makes of other files, if it makes the same tokens."""
    from tokenizers import Tokenizer

    try:
        theirs = _theirs(path)
        text: str = theirs.backend_tokenizer.to_str()
        ours = Tokenizer.from_str(text)
        same = ours.encode(_PROBE).ids == theirs(_PROBE)["input_ids"]
    except Exception as error:  # transformers raises errors of many types
        needs = "; pip install sentencepiece may help" if "tokenizer.model" in files else ""
        reason = first_line(error).removesuffix(" from one of:")
        return None, f"none: transformers cannot convert {files} ({reason}{needs})"
    if ours.get_vocab_size() < _LEAST or not same:
        return None, f"none: transformers' conversion of {files} makes other tokens"
    return text, f"converted by transformers from {files}"


def _theirs(path: Path) -> Any:
    """transformers' tokenizer of a directory: by the model's type, else by the class it names."""
    import transformers

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        return transformers.AutoTokenizer.from_pretrained(path, **options)
    except Exception:
        # Models that see have no tokenizer of their own type, but name that of their text part.
        name = read_object(path / "tokenizer_config.json").get("tokenizer_class")
        if not isinstance(name, str) or not name.endswith(("Tokenizer", "TokenizerFast")):
            raise
        return getattr(transformers, name).from_pretrained(path, **options)
