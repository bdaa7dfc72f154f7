# SPDX-License-Identifier: Apache-2.0
"""What a model says of its tokens, its template's variables, and tokenizers that fail."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.data.tokenizer import MAXIMUM_TOKENIZER_BYTES, Tokenizer
from gsqc.errors import BundleError, DataError
from tests.data.small_data import BOS, make_tokenizer
from tests.data.templates import CHATML
from tests.runtime.small_bundle import END, byte_tokenizer, manifest, write_bundle


@pytest.mark.parametrize(
    ("model", "eos", "template"),
    [
        ({"eos_token_id": [END, 3]}, END, None),
        ({"eos_token_id": None}, None, None),
        ({"eos_token_id": "x", "chat_template": 3}, None, None),
        (
            {
                "chat_template": [
                    {"name": "tool_use", "template": "t"},
                    {"name": "default", "template": "d"},
                ]
            },
            END,
            {"tool_use": "t", "default": "d"},
        ),
        ({"chat_template": [{"name": "default", "template": "d"}]}, END, "d"),
        ({"chat_template": [{"name": "tool_use", "template": "t"}]}, END, {"tool_use": "t"}),
        ({"chat_template": [{"name": "tool_use"}]}, END, None),
    ],
)
def test_what_a_model_says_of_its_tokens(
    model: dict[str, Any], eos: int | None, template: Any
) -> None:
    made = make_tokenizer(**model)
    assert (made.eos, made.chat_template, made.beginning) == (eos, template, ())


def test_the_variables_of_a_template() -> None:
    assert make_tokenizer(bos_token_id=BOS, eos_token_id=END).template_variables == {
        "bos_token": byte_tokenizer().id_to_token(BOS),
        "eos_token": "<end>",
    }


def test_a_bundle_carries_its_template(tmp_path: Path) -> None:
    model = replace(manifest().model, chat_template=CHATML)
    assert (
        Tokenizer(Bundle.open(write_bundle(tmp_path / "a.gsqc", model=model))).chat_template
        == CHATML
    )


def changed(**parts: Any) -> str:
    """The text of the byte tokenizer with other parts."""
    data = json.loads(byte_tokenizer().to_str())
    data["model"] |= parts.pop("model", {})
    return json.dumps(data | parts)


CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": ""}
SPLIT = {"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated", "invert": False}
ABORTS = {
    "continuing_subword_prefix": "x",
    "vocab": {"Ġ": 0, "ĠĠ": 1},
    "merges": [["Ġ", "Ġ"]],
}
STRANGE = {
    "panics when it is read": changed(normalizer=CHARSMAP),
    "panics at an empty piece": changed(pre_tokenizer={"type": "FixedLength", "length": 0}),
    "tries for ever": changed(pre_tokenizer=SPLIT),
    "aborts": changed(model=ABORTS),
    "is no tokenizer": "{}",
    "is no JSON": "\x00",
    "is nested deeply": '{"model":' * 100_000,
}


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
def test_a_tokenizer_that_fails_ends_in_a_sentence(text: str) -> None:
    """The library panics, or ends its process. Ours goes on."""
    with pytest.raises(BundleError, match=r"tokenizer (is damaged|ended its process)") as error:
        Tokenizer.of_model(text, {}).encode("a" * 50 + "b")
    assert "use another model" in error.value.hint


def test_an_abort_names_its_signal() -> None:
    with pytest.raises(BundleError, match=r"ended its process \(signal SIGABRT\)"):
        Tokenizer.of_model(changed(model=ABORTS), {})


def test_a_tokenizer_that_is_too_large() -> None:
    with pytest.raises(BundleError, match="more than 64 MiB"):
        Tokenizer.of_model(" " * (MAXIMUM_TOKENIZER_BYTES + 1), {})


def test_texts_together_are_texts_one_by_one() -> None:
    tokenizer = make_tokenizer()
    texts = ["a", "", "Hü🙂\n", "\u2028 <end>b", "x" * 9]
    expected = [byte_tokenizer().encode(text, add_special_tokens=False) for text in texts]
    assert [np.frombuffer(ids, np.int32).tolist() for ids in tokenizer.encode_each(texts)] == [
        e.ids for e in expected
    ]
    assert [
        (ids.tolist(), starts.tolist(), ends.tolist())
        for ids, starts, ends in tokenizer.encode_each_with_ranges(texts)
    ] == [(e.ids, [s for s, _ in e.offsets], [end for _, end in e.offsets]) for e in expected]
    assert tokenizer.encode_each([]) == []


def test_a_tokenizer_neither_cuts_nor_pads() -> None:
    """A tokenizer.json may ask for both, and a document would lose what is behind its cut."""
    cutting = byte_tokenizer()
    cutting.enable_truncation(4)
    cutting.enable_padding(length=9)
    tokenizer = Tokenizer.of_model(cutting.to_str(), {})
    assert tokenizer.decode(tokenizer.encode("a longer text")) == "a longer text"


def test_what_is_no_text_and_no_token() -> None:
    tokenizer = make_tokenizer()
    with pytest.raises(DataError, match="half of a surrogate pair"):
        tokenizer.encode("a\udc80")
    with pytest.raises(BundleError, match="it fails"):
        tokenizer.decode([-1])
    assert tokenizer.decode(tokenizer.encode("it goes on")) == "it goes on"


def test_the_process_ends_with_the_tokenizer() -> None:
    tokenizer = make_tokenizer()
    process = tokenizer._process._process
    assert process.poll() is None
    del tokenizer
    gc.collect()
    assert process.returncode is not None


def test_an_interrupted_request_leaves_no_answer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make_tokenizer()

    def interrupted(content: bytes) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gsqc.data.bounded_process.json.loads", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tokenizer.encode("a")
    with pytest.raises(BundleError, match="ended its process"):
        tokenizer.encode("b")


def test_a_token_that_the_model_does_not_have() -> None:
    """A tokenizer with tokens added, whose model was not resized."""
    model = {"vocabulary": END, "eos_token_id": None}
    tokenizer = Tokenizer.of_model(byte_tokenizer().to_str(), model)
    assert tokenizer.encode("ab")
    for read in (tokenizer.encode, lambda text: tokenizer.encode_each_with_ranges([text])):
        with pytest.raises(DataError, match=f"'<end>' as token {END}, and the model has {END}"):
            read("a <end>")
