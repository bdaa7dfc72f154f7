# SPDX-License-Identifier: Apache-2.0
"""What a GGUF file says of a tokenizer, from the text of a tokenizer.json: the way back of
gsqc.models.readers.tokenizer.

A file names the pattern by which words are cut, and has no other rules. So the result is read back,
and has to make the same tokens of texts that tokenizers cut differently.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import ExportError, GsqcError
from gsqc.export.gguf.values import ELSEWHERE, Values
from gsqc.models import LoadedModel
from gsqc.models.readers.scored_pieces import BYTE
from gsqc.models.readers.tokenizer import tokenizer_from_gguf
from gsqc.models.readers.word_cuts import PATTERNS, pre_tokenizer, takes_whole_words
from gsqc.models.special_tokens import end_texts

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 1, 2, 3, 4, 5
"""ggml's token types."""
TEXTS = (
    "Hello, world! It's 2026-11-30; we'll DON'T they'RE I'M you'd",
    "  leading and trailing  ",
    "tabs\tand\n\nnew lines\r\n \n  \n\n\n   three",
    "numbers 1 12 123 1234 12345 1234567 3.14159 1,000,000 0x1F",
    "if (x == 10) { return foo->bar[3]; } // <=> ^^ ~~ || `code` $5 + 3 = 8",
    "C:\\path\\file /usr/local/bin https://example.org/a?b=c&d=e#f user@host.org",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case X1Y2",
    "!!! ??? ... --- *** === ___ '''\"\"\"/\n//\n",
    "a'b 'quoted' ''s 'S 'sx 'll 're",
    "中文字符 和 English混合123テスト한국어 “curly” ‘quotes’ — dash … ，。！？、",
    "Привет мир! Ελληνικά ÄÖÜ äöü ÉCOLE école Straße 🦙🚀 emoji ½ ² Ⅷ",
)


def tokenizer_values(loaded: LoadedModel, vocabulary: int, template: str | None) -> Values:
    """The values below `tokenizer.`, by their keys.

    vocabulary  rows of the embedding: those without a token get a name
    template    the chat template of the run's prompts, or None for the model's own

    Raises ExportError for a tokenizer that a GGUF file cannot express.
    """
    if loaded.tokenizer_json is None:
        raise ExportError("the model has no tokenizer, and a GGUF file needs one", ELSEWHERE)
    tokenizer = json.loads(loaded.tokenizer_json)
    model = tokenizer["model"]
    if model.get("type") != "BPE":
        raise ExportError(f"the model's tokenizer is {model.get('type')}, not BPE", ELSEWHERE)
    original = Tokenizer.of_model(loaded.tokenizer_json, loaded.metadata)
    wanted = [original.encode(text) for text in TEXTS]
    values = _vocabulary(tokenizer, vocabulary) | _special(loaded, original)
    for further in _kinds(tokenizer, values):
        made = {f"tokenizer.{key}": value for key, value in (values | further).items()}
        if _encoded(made, loaded.metadata) == wanted:
            return made | _templates(loaded, template)
    raise ExportError("llama.cpp has no tokenizer that makes the model's tokens", ELSEWHERE)


def _encoded(values: Values, metadata: dict[str, Any]) -> list[Any] | None:
    """The texts' tokens by the tokenizer that these values describe. None if there is none."""
    try:
        text = tokenizer_from_gguf(values)
        assert text is not None
        tokenizer = Tokenizer.of_model(text, metadata)
        return [tokenizer.encode(text) for text in TEXTS]
    except GsqcError:
        return None


def _vocabulary(tokenizer: dict[str, Any], count: int) -> Values:
    """Tokens and their types."""
    model, added = tokenizer["model"], tokenizer.get("added_tokens") or []
    numbers = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
    tokens = [f"[PAD{k}]" for k in range(max([count, *(k + 1 for k in numbers.values())]))]
    types = [_UNUSED] * len(tokens)
    is_pieces = bool(model.get("byte_fallback"))
    for text, number in numbers.items():
        is_byte = is_pieces and len(text) == 6 and text.startswith("<0x") and text.endswith(">")
        tokens[number], types[number] = text, BYTE if is_byte else _NORMAL
    for token in added:
        types[token["id"]] = _CONTROL if token.get("special") else _USER_DEFINED
    if is_pieces and model.get("unk_token") in numbers:
        types[numbers[model["unk_token"]]] = _UNKNOWN
    return {"ggml.tokens": tokens, "ggml.token_type": types}


def _special(loaded: LoadedModel, tokenizer: Tokenizer) -> Values:
    """The numbers of special tokens, and whether a text begins with BOS."""
    said, data = loaded.metadata, json.loads(loaded.tokenizer_json or "")
    numbers = {**data["model"]["vocab"]}
    numbers |= {token["content"]: token["id"] for token in data.get("added_tokens") or []}
    names = {"unknown": "unk_token", "padding": "pad_token", "seperator": "sep_token"}
    texts = said.get("special_tokens") or {}
    found = {key: numbers.get(texts.get(name)) for key, name in names.items()}
    eos = said.get("eos_token_id")
    found |= {"bos": said.get("bos_token_id"), "eos": eos[0] if isinstance(eos, list) else eos}
    by_text = {numbers[text] for text in end_texts(numbers)}
    others = [k for k in said.get("end_token_ids") or [] if k != found["eos"] and k not in by_text]
    found["eot"] = others[0] if others else None
    values: Values = {f"ggml.{k}_token_id": n for k, n in found.items() if n is not None}
    return values | {"ggml.add_bos_token": bool(tokenizer.beginning), "ggml.add_eos_token": False}


def _kinds(tokenizer: dict[str, Any], values: Values) -> Iterator[Values]:
    """What may be said of how texts are cut and joined, the likeliest first."""
    model = tokenizer["model"]
    merges = [m if isinstance(m, list) else m.split(" ", 1) for m in model["merges"]]
    if model.get("byte_fallback"):
        # The first merges have the best scores. A token that none makes is never joined.
        scores = {left + right: -float(k) for k, (left, right) in reversed([*enumerate(merges)])}
        least = -float(len(merges))
        said = [scores.get(token, least) for token in values["ggml.tokens"]]
        for prefix in (True, False):
            yield {"ggml.model": "llama", "ggml.scores": said, "ggml.add_space_prefix": prefix}
        return
    if not merges:
        raise ExportError("the tokenizer has no merges, and llama.cpp wants some", ELSEWHERE)
    joined = [" ".join(merge) for merge in merges]
    kinds = {(PATTERNS[name], takes_whole_words(name)): name for name in reversed(PATTERNS)}
    known = tokenizer.get("pre_tokenizer")
    for name in sorted(kinds.values(), key=lambda name: pre_tokenizer(name) != known):
        yield {"ggml.model": "gpt2", "ggml.pre": name, "ggml.merges": joined}


def _templates(loaded: LoadedModel, template: str | None) -> Values:
    """The chat template, and further ones by their names."""
    own = loaded.metadata.get("chat_template")
    if template is not None or not isinstance(own, list):
        only = own if template is None else template
        return {} if only is None else {"tokenizer.chat_template": only}
    named = {one["name"]: one["template"] for one in own}
    values = {"tokenizer.chat_template": named.pop("default")} if "default" in named else {}
    values |= {f"tokenizer.chat_template.{name}": text for name, text in named.items()}
    return values | ({"tokenizer.chat_templates": list(named)} if named else {})
