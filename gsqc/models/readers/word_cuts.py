# SPDX-License-Identifier: Apache-2.0
"""How byte-level tokenizers cut a text into words before their merges, by the name in a GGUF file.

The patterns are those of the models' own tokenizer.json, as src/llama-vocab.cpp of llama.cpp quotes
them. They are applied one after the other. What none matches is a word too. llama.cpp itself is
less exact in some: it knows the case of ASCII letters only, and for a few kinds no white space
beyond ASCII.
"""

from __future__ import annotations

from typing import Any

from gsqc.errors import ModelError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_MARKS_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"

_GPT2 = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",)
_DIGITS_GPT2 = (r"\p{N}", *_GPT2)
_QWEN2 = (rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}|{_MARKS}|{_SPACES}",)
_LLAMA3 = (rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}{{1,3}}|{_MARKS}|{_SPACES}",)
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}",
)
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    rf"|\p{{N}}|{_MARKS_SLASH}|{_SPACES}",
)
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}|{_MARKS_SLASH}|{_SPACES}",
)
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", *_GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")
_FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", *_GPT2, r"[0-9][0-9][0-9]")
_BLOOM = (r" ?[^(\s|.,!?…。，、।۔،)]+",)
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}")
_SEED = (rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}",)
_BAILING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+",
)
_CASED_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕ"
    "ἠ-ὅὈ-Ὅὐ-ὗὙὛὝ"
    "\u1f5f-\u1f7dᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌ\u1fd0-\u1fd3\u1fd6-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ"
    "\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳ"
    "Ꙁ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
_DEEPSEEK = (
    r"[\r\n]",
    rf"\s?[{_CASED_LETTERS}]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    r"[一-龥ࠀ-一가-퟿]+",
    r"\p{N}+",
)

_NAMES: dict[tuple[str, ...], str] = {
    _DEFAULT: "default",
    _GPT2: "gpt-2 phi-2 mpt olmo jais trillion gigachat a.x-4.0 mellum exaone4 granite-docling",
    _DIGITS_GPT2: "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
    _QWEN2: "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2",
    _QWEN35: "qwen35",
    _LLAMA3: "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 dbrx smaug-bpe "
    "glm4 chatglm-bpe",
    _TEKKEN: "tekken",
    _GPT4O: "gpt-4o llama4 kanana2 minimax-m2",
    _FALCON: "falcon",
    _BLOOM: "bloom poro-chat gpt3-finnish",
    (*_BLOOM, r"\p{N}"): "viking",
    _DEEPSEEK: "deepseek-llm",
    _DEEPSEEK_CODER: "deepseek-coder",
    _DEEPSEEK3: "deepseek-v3 hunyuan-dense joyai-llm",
    _SEED: "seed-coder",
    _BAILING: "bailingmoe bailingmoe2 llada-moe",
    (r"\p{N}{1,3}", *_LLAMA3): "minicpm5",
}
PATTERNS = {name: patterns for patterns, names in _NAMES.items() for name in names.split()}
"""The patterns by the name that a file has in tokenizer.ggml.pre."""
_WHOLE_WORDS = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 tekken minicpm5"


def takes_whole_words(kind: Any) -> bool:
    """Whether a word that is a token is taken as it is, whatever the merges would make of it."""
    return kind in _WHOLE_WORDS.split()


def byte_level(*, prefix: bool = False, regex: bool = True) -> dict[str, Any]:
    """The part of a tokenizer.json that writes bytes as characters. It cuts by GPT-2's pattern."""
    part = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True}
    return {**part, "use_regex": regex}


def pre_tokenizer(kind: Any) -> dict[str, Any]:
    """The part of a tokenizer.json that cuts words as `kind` does. ModelError if it is unknown."""
    if not isinstance(kind, str) or kind not in PATTERNS:
        raise ModelError(
            f"the GGUF file's tokenizer cuts words as {kind}", f"gsqc knows {', '.join(PATTERNS)}"
        )
    patterns = PATTERNS[kind]
    if patterns == _GPT2:
        return byte_level()
    parts: list[dict[str, Any]] = [_cut(pattern) for pattern in patterns]
    if patterns == _DIGITS_GPT2:
        parts = [{"type": "Digits", "individual_digits": True}, byte_level()]
    else:
        parts.append(byte_level(regex=False))
    return {"type": "Sequence", "pretokenizers": parts}


def _cut(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    return {**split, "invert": False}
