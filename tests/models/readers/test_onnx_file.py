# SPDX-License-Identifier: Apache-2.0
"""What .onnx files are refused for. Nothing outside of the model's directory is opened."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs pip install 'gsqc[onnx]'")

import onnx
from onnx import numpy_helper

from gsqc.errors import GsqcError, ModelError, OptionError, UnsupportedOperatorError
from gsqc.models import load_model
from gsqc.models.capture import capture_loaded, capture_model
from tests.models.capture.programs.genai import write_genai
from tests.models.capture.tiny import TOKENS, tiny_llama

_DATA = "model.onnx.data"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_genai(tiny_llama(), path)
    return path.read_bytes()


def write(folder: Path, content: bytes, change: Callable[[Any], object]) -> Path:
    model = onnx.ModelProto.FromString(content)
    change(model)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def moved(model: Any, location: str, **place: int) -> bytes:
    """Put a tensor's bytes into a file of that name, and give them."""
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    raw = bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    for key, value in {"location": location, **place}.items():
        tensor.external_data.add(key=key, value=str(value))
    return raw


def test_a_tensor_in_a_file_beside_it(content: bytes, tmp_path: Path) -> None:
    expected = capture_loaded(load_model(write(tmp_path, content, lambda m: None)), TOKENS)
    path = write(tmp_path, content, lambda m: (tmp_path / _DATA).write_bytes(moved(m, _DATA)))
    found = capture_model(str(path), TOKENS)
    for name in expected.weights.names():
        assert np.array_equal(found.weights.float32(name), expected.weights.float32(name))


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "link", "", "a\0b"])
def test_a_file_elsewhere_is_not_opened(location: str, content: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")

    def change(model: Any) -> None:
        (tmp_path / "secret").write_bytes(moved(model, location))

    with pytest.raises(ModelError, match=r"which is not in its directory|beside it"):
        load_model(write(folder, content, change))


@pytest.mark.parametrize("place", [{"offset": 8}, {"length": 1 << 40}, {"offset": -1}])
def test_a_tensor_beyond_its_file(place: dict[str, int], content: bytes, tmp_path: Path) -> None:
    path = write(
        tmp_path, content, lambda m: (tmp_path / _DATA).write_bytes(moved(m, _DATA, **place))
    )
    with pytest.raises(ModelError, match="damaged"):
        load_model(path)


def _another_operator(model: Any) -> None:
    for node in model.graph.node:
        if node.op_type == "Sigmoid":
            node.op_type = "Celu"
        if node.op_type == "MatMul" and node.name.startswith("o"):
            node.op_type, node.domain = "Custom", "their.own"


def _a_circle(model: Any) -> None:
    first, last = model.graph.node[8], model.graph.node[-2]
    first.input[0] = last.output[0]


def _no_tokens(model: Any) -> None:
    kept = [v for v in model.graph.input if v.name != "input_ids"]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    ids = np.zeros((1, TOKENS), np.int64)
    model.graph.initializer.append(numpy_helper.from_array(ids, "input_ids"))


def _in_another_form(model: Any) -> None:
    for node in model.graph.node:
        if node.op_type == "MatMul":
            node.op_type = "MatMulInteger"


def _a_fixed_length(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 99


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (_another_operator, UnsupportedOperatorError, r"their\.own\.Custom, Celu"),
        (_in_another_form, UnsupportedOperatorError, "MatMulInteger at model.onnx:"),
        (_a_circle, ModelError, "which nothing before it makes"),
        (_no_tokens, ModelError, "no input of token ids|no logits that depend"),
        (_a_fixed_length, ModelError, "exported for sequences of 99 tokens"),
        (lambda m: m.functions.add(), ModelError, "functions of its own"),
        (lambda m: m.graph.ClearField("node"), ModelError, "no operators"),
        (lambda m: m.graph.ClearField("output"), ModelError, "no logits that depend"),
    ],
)
def test_refusal_names_what_is_wrong(
    change: Callable[[Any], object],
    error: type[GsqcError],
    said: str,
    content: bytes,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=said):
        capture_model(str(write(tmp_path, content, change)), TOKENS)


@pytest.mark.parametrize("cut", [0, 10, 5000])
def test_a_damaged_file(cut: int, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content[: len(content) - cut] if cut else b"text")
    with pytest.raises(ModelError, match="damaged"):
        load_model(tmp_path / "model.onnx")


def test_a_read_that_is_wrong_is_found(content: bytes, tmp_path: Path) -> None:
    """The check runs the file as it is then: another one has other logits."""
    path = write(tmp_path, content, lambda m: None)
    captured = capture_model(str(path), TOKENS)
    assert captured.check is not None

    def change(model: Any) -> None:
        node = next(n for n in model.graph.node if n.op_type == "GroupQueryAttention")
        node.attribute.append(onnx.helper.make_attribute("scale", 3.0))

    write(tmp_path, content, change)
    with pytest.raises(ModelError, match="was read wrongly: onnxruntime's gives logits"):
        captured.check()


def test_without_onnx(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, content, lambda m: None)
    captured = capture_model(str(path), TOKENS)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert captured.check is not None
    said = captured.check()
    assert "of torch's run of the file. onnxruntime is not installed" in said
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(OptionError, match="onnx is not installed"):
        load_model(path)
