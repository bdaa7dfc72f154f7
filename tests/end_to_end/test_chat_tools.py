# SPDX-License-Identifier: Apache-2.0
"""A chat with tools from its records to an answer: compile, train, generate --chat.

The model is of Qwen's kind. Its template ends a turn with <|im_end|>, and config.json names
<|endoftext|> as eos. The tokens of tool calls are added, and not special.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.cli.main import main
from gsqc.data.form import DataForm
from gsqc.data.prompt import PromptOptions, choose_form
from gsqc.data.tokenizer import Tokenizer
from gsqc.runtime.session import Session
from tests.data.small_data import jsonl

pytestmark = pytest.mark.needs_target("llvm")

TEMPLATE = """\
{%- set system = messages[0].content if messages[0].role == 'system' else 'You help.' %}
{{- '<|im_start|>system\\n' + system }}
{%- if tools %}
{{- '\\n\\n# Tools\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
{{- '\\n</tools>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for m in messages %}
{%- if m.role == 'user' %}
{{- '<|im_start|>user\\n' + m.content + '<|im_end|>\\n' }}
{%- elif m.role == 'assistant' %}
{{- '<|im_start|>assistant' }}
{%- if m.content %}{{- '\\n' + m.content }}{%- endif %}
{%- for call in m.tool_calls or [] %}
{{- '\\n<tool_call>\\n' + (call.function | tojson) + '\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif m.role == 'tool' %}
{%- if messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
"""In the manner of Qwen 2.5, shortened. Results of tools stand in a turn of the user."""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED = ("<tool_call>", "</tool_call>")
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
SYSTEM = {"role": "system", "content": "Be short."}
QUESTION = "Is it warm in Rome?"
CALL = {"name": "weather", "arguments": {"city": "Rome"}}
CHAT: list[dict[str, Any]] = [
    SYSTEM,
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": CALL}]},
    {"role": "tool", "name": "weather", "content": "31 C"},
    {"role": "assistant", "content": "Yes, 31 degrees."},
]
OTHER = [
    SYSTEM,
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "A weather clerk."},
]
MOST = 100
"""Tokens that generate may make. The longest answer has fewer."""


def write_model(folder: Path) -> Path:
    """A tiny Llama with random weights, and the files that models of Qwen's kind have."""
    # Imported here: the skip without a compiler needs no torch.
    from tests.models.capture.tiny import tiny_llama
    from tests.runtime.small_bundle import byte_tokenizer

    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.add_tokens(list(ADDED))
    ids = {text: tokenizer.token_to_id(text) for text in SPECIAL}
    model = tiny_llama(vocab_size=tokenizer.get_vocab_size(), eos_token_id=ids["<|endoftext|>"])
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "bos_token": None}
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps({**named, **kind}))
    end = {"eos_token_id": ids["<|endoftext|>"]}
    (folder / "generation_config.json").write_text(json.dumps(end))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model, its bundle and a run that has learned both chats by heart."""
    folder = tmp_path_factory.mktemp("chat-tools")
    model, bundle = write_model(folder / "model"), str(folder / "b.gsqc")
    records = [{"messages": chat, "tools": TOOLS} for chat in (CHAT, OTHER)]
    data = str(jsonl(folder / "chats.jsonl", *records))
    compiled = ["compile", str(model), "-o", bundle, "--seq", "384", "--batch", "2"]
    assert main(compiled) == 0
    run = ["--run", str(folder / "run"), "--steps", "120", "--lr", "1e-2"]
    assert main(["train", bundle, "--data", data, "--strict", *run]) == 0
    return folder


def generate(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str) -> dict[str, Any]:
    """What `gsqc generate --chat --json` says."""
    capsys.readouterr()
    asked = ["generate", str(folder / "b.gsqc"), "--chat", "--max-tokens", str(MOST), "--json"]
    assert main([*asked, *arguments]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def theirs(folder: Path) -> Any:
    """The model's tokenizer as transformers reads it."""
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(folder / "model")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (QUESTION, f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"),
        ("Who are you?", "A weather clerk."),
    ],
    ids=["a call", "a text"],
)
def test_it_answers_what_it_learned_and_stops_by_itself(
    trained: Path, capsys: pytest.CaptureFixture[str], question: str, answer: str
) -> None:
    """System text and tools are those of the run. The end of the turn is not in the answer."""
    asked = ["--run", str(trained / "run"), "--prompt", question]
    said = generate(capsys, trained, *asked)
    assert said["text"] == answer
    assert len(said["tokens"]) < MOST
    assert said["tokens"] == theirs(trained)(answer)["input_ids"]
    messages = [SYSTEM, {"role": "user", "content": question}]
    prompt = theirs(trained).apply_chat_template(
        messages, tools=TOOLS, add_generation_prompt=True, return_dict=False
    )
    assert said["prompt_tokens"] == len(prompt)
    opened = Bundle.open(trained / "b.gsqc")
    recorded = DataForm.of_config(json.loads((trained / "run" / "config.json").read_text()))
    form = choose_form(PromptOptions(chat=True), recorded, of_run=True)
    assert form.tokens(Tokenizer(opened), question) == prompt
    untrained = generate(capsys, trained, "--prompt", question)
    assert len(untrained["tokens"]) == MOST


def test_it_answers_a_tools_result_and_stops_by_itself(trained: Path) -> None:
    """The chat's last turn, after the call and its result. The prompt is transformers'."""
    prompt = theirs(trained).apply_chat_template(
        CHAT[:-1], tools=TOOLS, add_generation_prompt=True, return_dict=False
    )
    session = Session(trained / "b.gsqc", trained / "run")
    made = list(session.generate(prompt, MOST))
    assert theirs(trained).decode(made) == CHAT[-1]["content"]


def test_the_answer_ends_with_its_turn_and_not_with_eos(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were eos the only end, the same run would go on behind the answer."""
    session = Session(trained / "b.gsqc", trained / "run")
    manifest, tokenizer = session.bundle.manifest, theirs(trained)
    eos, _, end = tokenizer.convert_tokens_to_ids(list(SPECIAL))
    assert manifest.model.eos_token_id == eos
    assert set(manifest.model.end_token_ids) == {eos, end}
    only_eos = replace(manifest, model=replace(manifest.model, end_token_ids=None))
    monkeypatch.setattr(session.bundle, "manifest", only_eos)
    prompt = tokenizer.apply_chat_template(
        OTHER[:-1], tools=TOOLS, add_generation_prompt=True, return_dict=False
    )
    made = list(session.generate(prompt, MOST))
    assert len(made) == MOST
    assert tokenizer.decode(made).startswith("A weather clerk.<|im_end|>")
