# SPDX-License-Identifier: Apache-2.0
"""The real model learns a chat with tools, and stops at the end of its turn, which is not its eos.

Its directory is a copy whose eos is <|endoftext|> in every file, as that of a base model. The
template of `test_chat_tools` ends a turn with <|im_end|>.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.cli.main import main
from tests.data.small_data import jsonl
from tests.end_to_end.test_chat_tools import CALL, CHAT, OTHER, QUESTION, TEMPLATE, TOOLS

pytestmark = [pytest.mark.slow, pytest.mark.needs_target("llvm")]

EOS, TURN_END = "<|endoftext|>", "<|im_end|>"
MOST = 80


def write_copy(folder: Path) -> Path:
    """SmolLM2 with another eos and another template."""
    import torch

    from gsqc.models import load_model

    loaded = load_model("smollm2-135m")
    assert loaded.tokenizer_json is not None
    config = loaded.module.config
    config.eos_token_id, config.bos_token_id, config.pad_token_id = 0, 1, 0
    names = loaded.weights.names()
    state = {name: torch.from_numpy(loaded.weights.float32(name).copy()) for name in names}
    model = type(loaded.module)(config)
    lacking = model.load_state_dict(state, strict=False)
    assert not lacking.unexpected_keys
    assert lacking.missing_keys in ([], ["lm_head.weight"])  # the head is tied
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(loaded.tokenizer_json)
    named = {"eos_token": EOS, "pad_token": EOS, "bos_token": "<|im_start|>"}
    settings = {**named, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle of the copy, and a run that has learned two chats by heart."""
    folder = tmp_path_factory.mktemp("smollm2-chat")
    bundle = str(folder / "b.gsqc")
    records = [{"messages": chat, "tools": TOOLS} for chat in (CHAT, OTHER)]
    data = str(jsonl(folder / "chats.jsonl", *records))
    model = str(write_copy(folder / "model"))
    assert main(["compile", model, "-o", bundle, "--seq", "256", "--batch", "2"]) == 0
    run = ["--run", str(folder / "run"), "--steps", "40", "--lr", "2e-3"]
    assert main(["train", bundle, "--data", data, "--strict", *run]) == 0
    return folder


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (QUESTION, f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"),
        ("Who are you?", "A weather clerk."),
    ],
    ids=["a call", "a text"],
)
def test_it_answers_and_stops_by_itself(
    trained: Path, capsys: pytest.CaptureFixture[str], question: str, answer: str
) -> None:
    asked = ["generate", str(trained / "b.gsqc"), "--chat", "--max-tokens", str(MOST), "--json"]
    capsys.readouterr()
    assert main([*asked, "--run", str(trained / "run"), "--prompt", question]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["text"] == answer
    assert len(said["tokens"]) < MOST


def test_its_eos_is_not_the_end_of_a_turn(trained: Path) -> None:
    """What the answers above end with, by the bundle's manifest."""
    model = Bundle.open(trained / "b.gsqc").manifest.model
    assert model.eos_token_id == 0
    assert model.special_tokens is not None
    assert model.special_tokens["eos_token"] == EOS
    assert 2 in (model.end_token_ids or ())  # <|im_end|>
