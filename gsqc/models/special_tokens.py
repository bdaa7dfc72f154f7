# SPDX-License-Identifier: Apache-2.0
"""Which tokens begin and end a text, and what a chat template knows of them.

A model's directory is read as transformers 5 does: names from tokenizer_config.json and
special_tokens_map.json, numbers from generation_config.json and config.json. A GGUF file's metadata
is read as llama.cpp does (`llama_vocab::impl::load` in src/llama-vocab.cpp), with its defaults.
Only its default of token 11 for a BOS or EOS that a byte-level file does not name is not taken.

What is decided is metadata of a LoadedModel:

eos_token_id    the token that ends a text, or a list that begins with it. Or None.
bos_token_id    the token that begins a text, or None
special_tokens  a template's variables by name, bos_token and others. None if nothing names them:
                then bos_token and eos_token are the texts of the ids.
end_token_ids   every token that ends what the model generates
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

Metadata = dict[str, Any]
# fmt: off
_BOS_ADDED = (
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
    "jina-v5-nano", "tekken", "chameleon",
)
"""Kinds of llama.cpp's byte-level tokenizers that put BOS before a text unless the file says no."""
_END_TEXTS = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
    "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
    "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    "<｜end▁of▁sentence｜>", "[e~[", "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]",
    "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
)
"""Tokens at which llama.cpp stops, whatever a file says of them."""
# fmt: on
_GGUF_NAMES = {"bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding"}
_GGUF_NAMES |= {"mask": "mask", "eot": "eot", "eom": "eom"}
_PIECES, _OF_PIECES = "llama", {"bos": 1, "eos": 2, "unknown": 0}
"""llama.cpp's name of SentencePiece, and its special tokens if a file does not name them."""
_OURS = ("messages", "tools", "documents", "add_generation_prompt")
_MOST_NAMES, _MOST_CHARACTERS = 64, 256


def end_texts(tokens: Iterable[str]) -> list[str]:
    """The tokens that end what a model generates, by their texts alone."""
    known = set(tokens)
    ends = [text for text in _END_TEXTS if text in known]
    # Where these end a message, <|end|> ends a part of it.
    calls, others = known & {"<|call|>", "<|calls|>"}, known & {"<|return|>", "<|flush|>"}
    if "<|end|>" in ends and calls and others:
        ends.remove("<|end|>")
    if "</s>" in ends and "<|tool_response>" in known:
        ends.remove("</s>")
    return ends


def adds_bos(metadata: Metadata) -> bool:
    """Whether a GGUF file's tokenizer puts BOS before a text, by itself or by its kind."""
    said = metadata.get("tokenizer.ggml.add_bos_token")
    if type(said) is bool:
        return said
    if metadata.get("tokenizer.ggml.model") == _PIECES:
        return True
    return metadata.get("tokenizer.ggml.pre") in _BOS_ADDED


def token_id(metadata: Metadata, name: str) -> int | None:
    """The token that a GGUF file has for bos, eos, unknown or another key. None if it has none."""
    number = metadata.get(f"tokenizer.ggml.{name}_token_id")
    if number is None and metadata.get("tokenizer.ggml.model") == _PIECES:
        number = _OF_PIECES.get(name)
    tokens = metadata.get("tokenizer.ggml.tokens")
    known = len(tokens) if isinstance(tokens, list) else 0
    return number if type(number) is int and 0 <= number < known else None


def tokens_of_gguf(metadata: Metadata) -> Metadata:
    """What a GGUF file's metadata says. Tokens that are none are left out."""
    tokens = metadata.get("tokenizer.ggml.tokens") or []
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        tokens = []  # the reader of the tokenizer says what is wrong with it
    found = {name: token_id(metadata, key) for name, key in _GGUF_NAMES.items()} if tokens else {}
    ids = {name: number for name, number in found.items() if number is not None}
    numbers = {token: k for k, token in enumerate(tokens)}
    ends = [ids[name] for name in ("eos", "eot", "eom") if name in ids]
    texts = {f"{name}_token": tokens[k] for name, k in ids.items() if name not in ("eot", "eom")}
    return {
        "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id", ids.get("eos")),
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id", ids.get("bos")),
        "special_tokens": _variables(texts) if tokens else None,
        "end_token_ids": _unique([*ends, *(numbers[text] for text in end_texts(numbers))]),
    }


def tokens_of_directory(
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
    named: tuple[Metadata, Metadata],
    tokenizer_json: str | None,
) -> Metadata:
    """What the files of a model's directory say.

    config      eos_token_id and bos_token_id of config.json
    generation  the object in generation_config.json, which goes before config.json
    named       the objects in tokenizer_config.json and special_tokens_map.json, {} if none
    """
    texts = _named_tokens(*named) if any(named) else None
    tokenizer = json.loads(tokenizer_json) if tokenizer_json else {}
    numbers, special = _vocabulary(tokenizer)
    said = {
        key: generation[key] if generation.get(key) is not None else config.get(key)
        for key in ("eos_token_id", "bos_token_id")
    }
    first = {f"{n}_id": numbers.get((texts or {}).get(n, "")) for n in ("eos_token", "bos_token")}
    eos = said["eos_token_id"]
    if first["eos_token_id"] is not None:
        # What ends a text in training is the tokenizer's. A model may stop at others too.
        ids = _unique([first["eos_token_id"], *_listed(eos)])
        eos = ids if len(ids) > 1 else ids[0]
    bos = first["bos_token_id"]
    ends = [*_listed(eos), *_listed(config.get("eos_token_id"))]
    return {
        "eos_token_id": eos,
        "bos_token_id": said["bos_token_id"] if bos is None else bos,
        "special_tokens": texts,
        "end_token_ids": _unique([*ends, *(numbers[text] for text in end_texts(special))]),
    }


def _named_tokens(tokenizer_config: Metadata, special_map: Metadata) -> dict[str, str]:
    given = dict(tokenizer_config)
    if "added_tokens_decoder" not in given:  # a directory of an older transformers
        given |= special_map
    further: Metadata = {}
    for name in ("extra_special_tokens", "model_specific_special_tokens"):
        further |= given[name] if isinstance(given.get(name), dict) else {}
    named = {name: value for name, value in given.items() if name.endswith("_token")}
    return _variables({name: _content(value) for name, value in (named | further).items()})


def _content(value: Any) -> Any:
    """The text of a token, which may be an object with flags."""
    return value.get("content") if isinstance(value, dict) else value


def _variables(texts: Mapping[str, Any]) -> dict[str, str]:
    """The texts that can be a template's variables and that a manifest can hold."""
    names = re.compile(r"[A-Za-z]\w{0,63}", re.ASCII)
    return {
        name: text
        for name, text in list(texts.items())[:_MOST_NAMES]
        if names.fullmatch(name) and name not in _OURS and _is_held(text)
    }


def _is_held(text: Any) -> bool:
    if not isinstance(text, str) or not 0 < len(text) <= _MOST_CHARACTERS:
        return False
    return not re.search("[\0\ud800-\udfff]", text)


def _vocabulary(tokenizer: Metadata) -> tuple[dict[str, int], list[str]]:
    """The numbers of a tokenizer.json's tokens, and its special tokens. Others are left out."""
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    numbers: dict[str, int] = {}
    if isinstance(vocabulary, dict):
        numbers = {k: v for k, v in vocabulary.items() if type(v) is int}
    special = []
    for token in added if isinstance(added, list) else []:
        text, number = (
            (token.get("content"), token.get("id")) if isinstance(token, dict) else (0, 0)
        )
        if isinstance(text, str) and type(number) is int:
            numbers[text] = number
            if token.get("special") is True:
                special.append(text)
    return numbers, special


def _listed(value: Any) -> list[Any]:
    """A token or a list of tokens as a list. What is none stays, for the reader refuses it."""
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _unique(values: list[Any]) -> list[Any]:
    return [value for k, value in enumerate(values) if value not in values[:k]]
