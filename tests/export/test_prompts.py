# SPDX-License-Identifier: Apache-2.0
"""The chat template of an export makes the text of training, token for token, in transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader
from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gsqc.bundle.bundle import Bundle
from gsqc.cli.main import main
from gsqc.data import load_data
from gsqc.data.form import DataForm
from gsqc.data.prompt import PromptForm
from gsqc.data.tokenizer import Tokenizer
from gsqc.export.hf_model import set_template
from gsqc.export.prompts import chat_template
from gsqc.models import load_model
from gsqc.models.catalogue import find_model
from tests.cli.run_command import Capture, run_json, run_text
from tests.data.small_data import jsonl, make_tokenizer
from tests.data.templates import CHATML
from tests.export.foreign.test_peft import bundle, matrices, take, write
from tests.runtime.small_bundle import byte_tokenizer

__all__ = ["bundle"]
TEXTS = ["Who?", 'it\'s \\n "quoted"\n\ttab', "ü 😀 {{ 1 }} {% if %}", "</s> \\"]


def in_transformers(template: str | None) -> Any:
    """The byte tokenizer as transformers has it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(), eos_token="<end>", chat_template=template
    )


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("end", ["\n", "", "\t\\'=>\r\n"])
@pytest.mark.parametrize("form", ["alpaca", "prompt"])
@pytest.mark.parametrize("text", TEXTS)
def test_the_text_is_that_of_training(
    text: str, form: str, end: str, bos: bool, tmp_path: Path
) -> None:
    tokenizer = make_tokenizer(bos=bos)
    names = ("instruction", "output") if form == "alpaca" else ("prompt", "completion")
    file = jsonl(tmp_path / "a.jsonl", dict(zip(names, (text, "Tomas."), strict=True)))
    (sequence,) = load_data(file, tokenizer, 512, prompt_end=end).sequences
    used = int(sequence.weights.nonzero()[0][-1]) + 1
    trained = [int(sequence.tokens[0]), *sequence.labels[:used].tolist()]
    theirs = in_transformers(chat_template(PromptForm(form, prompt_end=end), tokenizer))
    user, answer = {"role": "user", "content": text}, {"role": "assistant", "content": "Tomas."}
    whole = theirs.apply_chat_template([user, answer], return_dict=False)
    assert whole == trained
    first = int(sequence.weights.nonzero()[0][0]) + 1
    prompt = theirs.apply_chat_template([user], add_generation_prompt=True, return_dict=False)
    assert prompt == trained[:first]


def test_an_empty_prompt_has_no_end() -> None:
    """As in training, where a completion may stand alone."""
    template = chat_template(PromptForm("prompt"), make_tokenizer(bos=True))
    theirs = in_transformers(template)
    assert theirs.apply_chat_template([{"role": "user", "content": ""}], tokenize=False) == "A"


def test_turns_that_training_never_saw_are_refused() -> None:
    theirs = in_transformers(chat_template(PromptForm("alpaca"), make_tokenizer()))
    with pytest.raises(TemplateError, match="turns of user and assistant alone"):
        theirs.apply_chat_template([{"role": "system", "content": "Be short."}])


@pytest.mark.parametrize("form", ["chat", "text"])
def test_other_forms_keep_the_models_own(form: str) -> None:
    assert chat_template(PromptForm(form), make_tokenizer()) is None


@pytest.mark.parametrize("has_file", [False, True])
def test_a_model_directory_gets_the_template(tmp_path: Path, has_file: bool) -> None:
    """Whichever of the two places the model's own was in."""
    in_transformers(CHATML).save_pretrained(tmp_path, save_jinja_files=has_file)
    before = AutoTokenizer.from_pretrained(tmp_path)
    user = [{"role": "user", "content": "Who?"}]
    assert "<|im_start|>" in before.apply_chat_template(user, tokenize=False)
    set_template(tmp_path, str(chat_template(PromptForm("prompt"), make_tokenizer())))
    after = AutoTokenizer.from_pretrained(tmp_path)
    assert after.apply_chat_template(user, tokenize=False) == "Who?\n"
    assert after.eos_token == "<end>"
    (tmp_path / "chat_template.jinja").unlink()
    older = AutoTokenizer.from_pretrained(tmp_path)  # programs that know the one file only
    assert older.apply_chat_template(user, tokenize=False) == "Who?\n"


@pytest.fixture
def run(bundle: Bundle, tmp_path: Path) -> Path:
    """A run with a state and without a recorded form."""
    take(bundle, write(tmp_path / "peft", matrices()), tmp_path / "run")
    return tmp_path / "run"


def record(run: Path, form: DataForm) -> None:
    file = run / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **form.setting()}))


def exported(capsys: Capture, bundle: Bundle, run: Path, *options: object) -> list[dict[str, Any]]:
    capsys.readouterr()
    code, lines = run_json(capsys, "export", bundle.path, "--run", run, *options, "--force")
    assert code == 0
    return lines


def test_exports_of_an_adapter_have_the_form(
    capsys: Capture, bundle: Bundle, run: Path, tmp_path: Path
) -> None:
    record(run, DataForm({"alpaca": 3}))
    expected = chat_template(PromptForm("alpaca"), make_tokenizer())
    places = {
        "peft": tmp_path / "out",
        "gguf": tmp_path / "a.gguf",
        "chat-template": tmp_path / "t",
    }
    given = [part for name, place in places.items() for part in (f"--{name}", place)]
    lines = exported(capsys, bundle, run, *given)
    told = "chat template: it makes a prompt in Alpaca's form, as the run's data; --form overrides"
    assert [(line["form"], line["notes"]) for line in lines] == [("alpaca", [told])] * 3
    for file in (tmp_path / "out" / "chat_template.jinja", tmp_path / "t"):
        assert file.read_text() == expected
    fields = GGUFReader(tmp_path / "a.gguf").fields
    assert fields["tokenizer.chat_template"].contents() == expected
    page = (tmp_path / "out" / "README.md").read_text()
    assert "In training, prompts were put in Alpaca's form." in page
    code, out, err = run_text(
        capsys, "export", bundle.path, "--run", run, *given[2:4], "--force", "--form", "text"
    )
    assert (code, err) == (0, "")
    assert "though the run's data has the form alpaca" in out
    assert "tokenizer.chat_template" not in GGUFReader(tmp_path / "a.gguf").fields


def test_a_run_on_chats_notes_the_system_text(
    capsys: Capture, bundle: Bundle, run: Path, tmp_path: Path
) -> None:
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    manifest["model"]["chat_template"] = CHATML
    (bundle.path / "manifest.json").write_text(json.dumps(manifest))
    record(run, DataForm({"chat": 2}, "You know\nthe house."))
    (line,) = exported(capsys, bundle, run, "--peft", tmp_path / "out")
    assert (line["form"], line["system"]) == ("chat", "You know\nthe house.")
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == CHATML
    page = (tmp_path / "out" / "README.md").read_text()
    assert "All chats of the data have this system text:\n\n    You know\n    the house.\n" in page
    (line,) = exported(capsys, bundle, run, "--chat-template", tmp_path / "t", "--form", "prompt")
    assert (tmp_path / "t").read_text() == chat_template(PromptForm("prompt"), make_tokenizer())


def test_a_run_without_a_form_keeps_the_models_template(
    capsys: Capture, bundle: Bundle, run: Path, tmp_path: Path
) -> None:
    (line,) = exported(capsys, bundle, run, "--peft", tmp_path / "out")
    assert "the run has no recorded form" in line["notes"][0]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert main(["export", str(bundle.path), "--run", str(run), "--chat-template", "x"]) == 2
    assert "there is no chat template to write" in capsys.readouterr().err


@pytest.mark.slow
def test_llama_cpp_makes_the_same_tokens() -> None:
    """Its second request finds all tokens of the first in its cache: they are the same."""
    xllamacpp = pytest.importorskip("xllamacpp")
    path = find_model("smollm2-135m")
    model, form = load_model(path), PromptForm("alpaca")
    tokenizer = Tokenizer.of_model(str(model.tokenizer_json), model.metadata)
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx = str(path), 256
    settings.cpuparams.n_threads = 1
    settings.use_jinja = settings.enable_chat_template = True
    settings.chat_template = chat_template(form, tokenizer)
    server = xllamacpp.Server(settings)
    ask = {"max_tokens": 4, "temperature": 0}
    for text in TEXTS[1:3]:
        user = {"role": "user", "content": text}
        chat = server.handle_chat_completions({"messages": [user], **ask})
        tokens = form.tokens(tokenizer, text)
        plain = server.handle_completions({"prompt": tokens, **ask})
        assert plain["usage"]["prompt_tokens"] == chat["usage"]["prompt_tokens"] == len(tokens)
        cached = plain["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached == len(tokens) - 1
        assert plain["choices"][0]["text"] == chat["choices"][0]["message"]["content"]
