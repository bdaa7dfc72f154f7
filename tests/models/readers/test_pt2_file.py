# SPDX-License-Identifier: Apache-2.0
"""What .pt2 files are refused for. No pickle of theirs is ever opened."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gsqc.errors import GsqcError, ModelError, UnsupportedOperatorError
from gsqc.models import load_model
from gsqc.models.capture import capture_model
from tests.models.capture.programs.exports import Tokens, save_pt2, write_pt2
from tests.models.capture.tiny import TOKENS, tiny_llama

_MODEL, _WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("pt2") / "tiny.pt2"
    write_pt2(tiny_llama(), path)
    with zipfile.ZipFile(path) as archive:
        return {n.partition("/")[2]: archive.read(n) for n in archive.namelist()}


def write(path: Path, parts: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, part in parts.items():
            archive.writestr(f"tiny/{name}", part)
    return str(path)


def changed(
    parts: dict[str, bytes], name: str, change: Callable[[Any], object]
) -> dict[str, bytes]:
    tree = json.loads(parts[name])
    change(tree)
    return {**parts, name: json.dumps(tree).encode()}


class _Poison:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_sample_inputs_are_not_opened(parts: dict[str, bytes], tmp_path: Path) -> None:
    poison = pickle.dumps(_Poison(tmp_path / "made"))
    path = write(tmp_path / "a.pt2", {**parts, "data/sample_inputs/model.pt": poison})
    capture_model(path, TOKENS)
    assert not (tmp_path / "made").exists()
    pickle.loads(poison)
    assert (tmp_path / "made").exists()


def _first(tree: Any) -> Any:
    return next(iter(tree["config"].values()))


def _nodes(tree: Any) -> Any:
    return tree["graph_module"]["graph"]["nodes"]


@pytest.mark.parametrize(
    ("name", "change", "error", "said"),
    [
        (_WEIGHTS, lambda t: _first(t).update(use_pickle=True), ModelError, "as a pickle"),
        (
            _WEIGHTS,
            lambda t: _first(t)["tensor_meta"].update(storage_offset={"as_int": 1}),
            ModelError,
            "beyond the end",
        ),
        (_WEIGHTS, lambda t: _first(t).update(path_name="../x"), ModelError, "lacks"),
        (_WEIGHTS, lambda t: t.clear(), ModelError, "lacks a part"),
        (_MODEL, lambda t: t["schema_version"].update(major=9), ModelError, "version 9"),
        (
            _MODEL,
            lambda t: _nodes(t)[3].update(target="torch.ops.aten.system.default"),
            UnsupportedOperatorError,
            r"aten\.system\.default",
        ),
        (
            _MODEL,
            lambda t: _nodes(t)[3].update(target="builtins.exec"),
            UnsupportedOperatorError,
            r"builtins\.exec",
        ),
        (_MODEL, lambda t: _nodes(t).pop(20), ModelError, "damaged"),
    ],
)
def test_refusal_names_what_is_wrong(
    name: str,
    change: Callable[[Any], object],
    error: type[GsqcError],
    said: str,
    parts: dict[str, bytes],
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "a.pt2", changed(parts, name, change))
    with pytest.raises(error, match=said):
        capture_model(path, TOKENS)


def test_a_compressed_archive(parts: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="compressed"):
        load_model(write(tmp_path / "a.pt2", parts, zipfile.ZIP_DEFLATED))


def test_another_file(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(b"text")
    with pytest.raises(ModelError, match="no archive of torch"):
        load_model(tmp_path / "a.pt2")


class _Bidirectional(Tokens):
    """Each token sees all others."""

    def forward(self, input_ids: Any) -> Any:
        mask = torch.zeros(1, 1, TOKENS, TOKENS)
        return self.model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    save_pt2(_Bidirectional(tiny_llama()), tmp_path / "a.pt2")
    with pytest.raises(ModelError, match="attention that is not causal"):
        capture_model(str(tmp_path / "a.pt2"), TOKENS)
    with pytest.raises(ModelError, match=f"exported for sequences of {TOKENS} tokens"):
        capture_model(str(tmp_path / "a.pt2"), TOKENS + 1)
