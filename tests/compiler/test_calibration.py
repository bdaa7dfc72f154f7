# SPDX-License-Identifier: Apache-2.0
"""--calibrate: when a model is calibrated, by which text, and what a text must be."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gsqc
from gsqc.bundle.bundle import Bundle
from gsqc.compiler.calibration import (
    LEAST_TOKENS,
    MOST_TOKENS,
    OWN_NAME,
    OWN_TEXT,
    calibration_text,
    is_balanced,
    prepare_calibration,
)
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import Bits, CompileOptions
from gsqc.errors import OptionError
from tests.models.capture.tiny import tiny_llama
from tests.runtime.small_bundle import END, VOCABULARY, byte_tokenizer

TOKENIZER = byte_tokenizer().to_str()


def options(bits: str = "4-5-5", file: Path | None = None, **changes: Any) -> CompileOptions:
    values = {"sequence_length": 24, "calibrate": file, **changes}
    return CompileOptions(Path("x.gsqc"), "numpy", bits=Bits.parse(bits), **values)


def captured(tokenizer: str | None = TOKENIZER, vocabulary: int = VOCABULARY) -> Any:
    metadata = {"eos_token_id": END, "bos_token_id": None}
    config = SimpleNamespace(vocabulary=vocabulary)
    return SimpleNamespace(tokenizer_json=tokenizer, metadata=metadata, config=config)


def written(folder: Path, text: str) -> Path:
    path = folder / "text.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("bits", "by_itself"),
    [
        *(("4-5-5", True), ("4-6-8", True), ("4-6-6:w8", True)),
        *(("4-7-5", False), ("4-8-8", False), ("4-8-8:w5", False)),
    ],
)
def test_which_bits_are_calibrated(tmp_path: Path, bits: str, by_itself: bool) -> None:
    file = written(tmp_path, "text")
    for given, wanted in ((file, True), (None, by_itself), (Path("none"), False)):
        chosen = options(bits, given)
        assert is_balanced(chosen, TOKENIZER) is wanted
        assert is_balanced(chosen, None) is False
        assert (calibration_text(chosen) is not None) is wanted


def test_own_text_is_there_and_long_enough() -> None:
    text = calibration_text(options())
    assert text is not None
    assert text.name == OWN_NAME
    assert text.sha256 == hashlib.sha256(OWN_TEXT.read_bytes()).hexdigest()
    calibration = prepare_calibration(captured(), options(sequence_length=128), text, print)
    assert calibration is not None
    assert calibration.records.shape == (60, 128)
    assert calibration.part.tokens == 60 * 128


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "is empty"), (b" \n\t\n", "is empty"), (b"caf\xe9 " * 99, "is not UTF-8")],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(OptionError) as error:
        calibration_text(options("4-8-8", path))
    assert str(error.value) == f"--calibrate {path} {problem}"


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--calibrate .*/absent.txt: No such file"):
        calibration_text(options("4-8-8", tmp_path / "absent.txt"))
    with pytest.raises(OptionError, match=r"--calibrate .*: it is a directory, not a plain file"):
        calibration_text(options("4-8-8", tmp_path))


def test_a_text_that_is_too_short(tmp_path: Path) -> None:
    path = written(tmp_path, "a" * (LEAST_TOKENS - 1))
    asked = options("4-8-8", path)
    with pytest.raises(OptionError) as error:
        prepare_calibration(captured(), asked, calibration_text(asked), print)
    least = f"it has {LEAST_TOKENS - 1} tokens, and {LEAST_TOKENS} are the least"
    assert str(error.value) == f"--calibrate {path}: {least}"
    assert "a few pages" in error.value.hint
    asked = options("4-8-8", written(tmp_path, "a" * LEAST_TOKENS))
    assert prepare_calibration(captured(), asked, calibration_text(asked), print) is not None


@pytest.mark.parametrize(("length", "shape"), [(2, (4096, 2)), (24, (341, 24)), (500, (64, 128))])
def test_records_are_as_long_as_a_sequence_may_be(
    tmp_path: Path, length: int, shape: tuple[int, int]
) -> None:
    text = "".join(chr(97 + k % 26) for k in range(3 * MOST_TOKENS))
    asked = options("4-5-5", written(tmp_path, text), sequence_length=length)
    calibration = prepare_calibration(captured(), asked, calibration_text(asked), print)
    assert calibration is not None
    assert calibration.records.shape == shape
    ids = byte_tokenizer().encode(text[: calibration.records.size]).ids
    assert calibration.records.reshape(-1).tolist() == ids


def test_records_begin_as_texts_of_the_model_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Begun:
        beginning = (END,)

        def encode(self, text: str) -> list[int]:
            return [1] * len(text)

    monkeypatch.setattr(
        "gsqc.compiler.calibration.Tokenizer.of_model", lambda text, metadata: Begun()
    )
    asked = options(file=written(tmp_path, "a" * 300))
    calibration = prepare_calibration(captured(), asked, calibration_text(asked), print)
    assert calibration is not None
    assert calibration.records.tolist() == [[END] + [1] * 23] * 13


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (captured(None), "the model has no tokenizer"),
        (captured("{}"), "the model's tokenizer is damaged"),
        (captured(vocabulary=90), "and the model has 90 tokens"),
    ],
    ids=["none", "damaged", "of another model"],
)
def test_without_a_usable_tokenizer(tmp_path: Path, model: Any, problem: str) -> None:
    """Without a file that is told and no more. With one it is an error."""
    told: list[str] = []
    assert prepare_calibration(model, options(), calibration_text(options()), told.append) is None
    (line,) = told
    assert line.startswith("not calibrated: ")
    assert problem in line
    assert "\n" not in line
    asked = options("4-8-8", written(tmp_path, "text z " * 100))
    with pytest.raises(OptionError, match="--calibrate ") as error:
        prepare_calibration(model, asked, calibration_text(asked), told.append)
    assert problem in str(error.value)
    assert len(told) == 1


# ------------------------------------------------------------------------------------------------
# bundles


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny_llama(vocab_size=VOCABULARY, eos_token_id=END).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(TOKENIZER, encoding="utf-8")
    return folder


def compiled(model: Any, output: Path, bits: str = "4-5-5", **changes: Any) -> Bundle:
    told: list[str] = []
    chosen = replace(options(bits, **changes), output=output)
    compile_model(model, chosen, note=told.append)
    assert all("calibrated" not in line for line in told)
    return Bundle.open(output)


def tensors(bundle: Bundle) -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in bundle.map_tensors("base.safetensors").items()}


@pytest.fixture(scope="module")
def own(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Calibrated by gsqc's own text."""
    return compiled(str(model), tmp_path_factory.mktemp("own") / "a.gsqc")


def test_a_bundle_says_how_it_was_calibrated(own: Bundle, model: Path, tmp_path: Path) -> None:
    file = written(tmp_path, "It was a dark and stormy night. " * 40)
    other = compiled(str(model), tmp_path / "other.gsqc", file=file)
    assert own.manifest.calibration is not None
    assert other.manifest.calibration is not None
    assert own.manifest.calibration.name == OWN_NAME
    assert other.manifest.calibration.name == "text.txt"
    assert other.manifest.calibration.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    # Nothing but the shifts differs, and some of them do.
    first, second = tensors(own), tensors(other)
    balances = {n for n in first if n.endswith(".balance")}
    assert len(balances) == 2 * 4
    differ = {name for name in first if not np.array_equal(first[name], second[name])}
    assert differ <= balances
    assert differ


def test_the_same_again_gives_the_same_bundle(own: Bundle, model: Path, tmp_path: Path) -> None:
    again = compiled(str(model), tmp_path / "again.gsqc")
    name = "base.safetensors"
    assert own.manifest.files[name] == again.manifest.files[name]


def test_8_bits_are_calibrated_on_demand(model: Path, tmp_path: Path) -> None:
    file = written(tmp_path, "It was a dark and stormy night. " * 40)
    wide = compiled(str(model), tmp_path / "wide.gsqc", "4-8-8", file=file)
    assert wide.manifest.calibration is not None
    assert any(name.endswith(".balance") for name in wide.plan.buffers["base"])


def test_a_model_without_a_tokenizer_is_compiled_without(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = gsqc.compile(
            tiny_llama(), tmp_path / "a.gsqc", target="numpy", bits="4-5-5", base="nf4", seq=24
        )
    told = [str(w.message) for w in caught if "not calibrated" in str(w.message)]
    assert told == [
        "not calibrated: the model has no tokenizer. So operands of 5 bits lose more than they "
        "would have to"
    ]
    assert Bundle.open(made).manifest.calibration is None


def test_a_file_for_a_model_without_a_tokenizer(tmp_path: Path) -> None:
    file = written(tmp_path, "words " * 100)
    output = tmp_path / "a.gsqc"
    with pytest.raises(OptionError, match=r"--calibrate .*: the model has no tokenizer"):
        gsqc.compile(tiny_llama(), output, target="numpy", base="nf4", seq=24, calibrate=file)
    assert not output.exists()
