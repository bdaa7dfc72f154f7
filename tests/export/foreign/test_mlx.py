# SPDX-License-Identifier: Apache-2.0
"""Adapters of mlx-lm, in and out.

What stands for mlx-lm is written from its source of August 2026: the names and shapes that
LoRALinear of mlx_lm/tuner/lora.py gives its matrices, and what load_adapters of
mlx_lm/tuner/utils.py takes. tests/end_to_end/test_mlx_lm.py runs mlx-lm itself.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gsqc.bundle.bundle import Bundle
from gsqc.cli.main import main
from gsqc.errors import ExportError
from gsqc.export.adapter import read_adapter
from gsqc.export.mlx import mlx_tensors
from tests.export.foreign.conftest import ALPHA, LAYERS, RANK, SIZES, module
from tests.export.foreign.taken import added, state_of, take

WEIGHTS = "adapters.safetensors"
Tensors = dict[str, np.ndarray[Any, Any]]


def trained(layers: range, linears: str | tuple[str, ...], rank: int) -> Tensors:
    """What mlx_lm.lora saves: lora_a [inputs, rank] and lora_b [rank, outputs], all random."""
    rng, tensors = np.random.default_rng(3), {}
    for layer in layers:
        for short in linears:
            rows, columns = SIZES[short]
            name = module(short, layer)
            tensors[f"{name}.lora_a"] = rng.normal(0, 0.1, (columns, rank)).astype(np.float32)
            tensors[f"{name}.lora_b"] = rng.normal(0, 0.1, (rank, rows)).astype(np.float32)
    return tensors


def write(path: Path, tensors: Tensors, **settings: Any) -> Path:
    """A directory with the settings that mlx_lm.lora saves, of which it reads few."""
    path.mkdir()
    parameters = {"rank": 2, "dropout": 0.0, "scale": 20.0}
    config = {
        "adapter_path": "adapters",
        "fine_tune_type": "lora",
        "iters": 1000,
        "lora_parameters": parameters,
        "model": "mlx-community/toy-4bit",
        "num_layers": 1,
        "optimizer_config": {"adam": {}},
    }
    (path / "adapter_config.json").write_text(json.dumps(config | settings))
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, path / WEIGHTS)
    return path


def test_an_adapter_of_the_last_layer(
    tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """y = W·x + scale · (x · lora_a) · lora_b, so W grows by scale · (lora_a · lora_b)ᵀ."""
    tensors = trained(range(1, 2), ("q", "v"), 2)
    assert take(tiny, "mlx", write(tmp_path / "mlx", tensors), tmp_path / "run") == 0
    output = capsys.readouterr().out
    assert "names mlx-community/toy-4bit as its base, which is a copy of toy by its name" in output
    assert "its scale is 20 and the bundle's 2, so B is multiplied by 10" in output
    assert "its rank is 2, the bundle's 4" in output and "12 of 14 linears" in output
    for name, delta in added(tiny, tmp_path / "run").items():
        a, b = tensors.get(f"{name}.lora_a"), tensors.get(f"{name}.lora_b")
        expected = 0.0 if a is None or b is None else 20 * (a.astype(np.float64) @ b).T
        # Each of 4 products is off by 2^-25 times the other number, which is below 8.
        np.testing.assert_allclose(delta, expected, rtol=0, atol=2e-6)


def test_older_settings(tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a fine_tune_type, with an alpha that mlx-lm no longer reads, and lora_layers."""
    parameters = {"rank": 4, "alpha": 16.0, "scale": 2.0, "dropout": 0.1, "keys": ["mlp.up_proj"]}
    path = write(tmp_path / "mlx", trained(range(2), ("up",), 4), lora_parameters=parameters)
    config = json.loads((path / "adapter_config.json").read_text())
    del config["fine_tune_type"], config["num_layers"], config["model"]
    (path / "adapter_config.json").write_text(json.dumps(config | {"lora_layers": 16}))
    assert take(tiny, "mlx", path, tmp_path / "run") == 0
    output = capsys.readouterr().out
    assert "its alpha is left out, for mlx-lm computes with the scale alone" in output
    assert "multiplied" not in output and "trained with dropout" in output


def one(name: str, shape: tuple[int, ...]) -> Tensors:
    return {name: np.zeros(shape, np.float32)}


Q = module("q", 0)
BAD: dict[str, tuple[Tensors, dict[str, Any], str]] = {
    "dora": ({}, {"fine_tune_type": "dora"}, "fine_tune_type dora, and gsqc takes lora"),
    "all weights": ({}, {"fine_tune_type": "full"}, "fine_tune_type full, and gsqc takes lora"),
    "a magnitude": (one(f"{Q}.m", (64,)), {}, f"first {Q}.m"),
    "experts": (one(f"{Q}.lora_a", (8, 4, 64)), {}, f"first {Q}.lora_a"),
    "one matrix": (one(f"{Q}.lora_a", (64, 4)), {}, f"first {Q}.lora_a"),
    "the embedding": (
        {
            "model.embed_tokens.lora_a": np.zeros((257, 4), np.float32),
            "model.embed_tokens.lora_b": np.zeros((4, 64), np.float32),
        },
        {},
        "a LoRA of model.embed_tokens, outside the layers; merge it into its model with mlx_lm",
    ),
    "no parameters": ({}, {"lora_parameters": None}, "no lora_parameters"),
    "no scale": ({}, {"lora_parameters": {"rank": 4}}, "its scale is null"),
    "NaN as a scale": ({}, {"lora_parameters": {"scale": "NaN"}}, 'its scale is "NaN"'),
    "a later setting": ({}, {"lora_parameters": {"scale": 1, "x": 2}}, "lora_parameters.x is not"),
    "another base": ({}, {"model": "mlx-community/other-4bit"}, "is for mlx-community/other-4bit"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(
    tiny: Bundle, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors, settings, text = BAD[case]
    path = write(tmp_path / "mlx", tensors or trained(range(2), ("q",), 4), **settings)
    assert take(tiny, "mlx", path, tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1, error
    assert not (tmp_path / "run").exists()


def matrices_of_mlx_lm(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the matrices that load_adapters makes in the tiny llama: in the last
    `num_layers` layers, for each linear among the keys. All else in a file is an error there.
    """
    assert config.get("fine_tune_type", "lora") == "lora"
    lora = config["lora_parameters"]
    assert isinstance(lora["scale"], float) and lora["dropout"] == 0.0
    rank, shapes = lora["rank"], {}
    for layer in list(range(LAYERS))[-max(config["num_layers"], 0) :]:
        for short, (outputs, inputs) in SIZES.items():
            name = module(short, layer)
            if name.removeprefix(f"model.layers.{layer}.") in lora["keys"]:
                shapes[f"{name}.lora_a"] = (inputs, rank)
                shapes[f"{name}.lora_b"] = (rank, outputs)
    return shapes


def test_names_that_mlx_lm_has_not(tiny: Bundle, tmp_path: Path) -> None:
    assert (
        take(tiny, "mlx", write(tmp_path / "mlx", trained(range(2), ("q",), 4)), tmp_path / "r")
        == 0
    )
    adapter = read_adapter(tiny, tmp_path / "r")
    linear = replace(adapter.linears[0], module="transformer.h.0.attn.c_attn")
    with pytest.raises(ExportError, match=r"mlx-lm's name of transformer\.h\.0\.attn\.c_attn"):
        mlx_tensors(replace(adapter, linears=(linear,)))


def test_an_export_is_what_mlx_lm_loads_and_comes_back(tiny: Bundle, tmp_path: Path) -> None:
    source = write(
        tmp_path / "mlx", trained(range(2), tuple(SIZES), 4), lora_parameters={"scale": 2}
    )
    assert take(tiny, "mlx", source, tmp_path / "run") == 0
    out = tmp_path / "out"
    arguments = ["export", str(tiny.path), "--run", str(tmp_path / "run"), "--mlx", str(out)]
    assert main([*arguments, "--base-name", "mlx-community/toy-4bit"]) == 0
    config = json.loads((out / "adapter_config.json").read_text())
    tensors = load_file(out / WEIGHTS)
    assert {n: t.shape for n, t in tensors.items()} == matrices_of_mlx_lm(config)
    assert {t.dtype for t in tensors.values()} == {np.dtype(np.float32)}
    assert config["lora_parameters"]["scale"] == ALPHA / RANK
    assert config["model"] == "mlx-community/toy-4bit"
    for name, delta in added(tiny, tmp_path / "run").items():
        a, b = tensors[f"{name}.lora_a"].astype(np.float64), tensors[f"{name}.lora_b"]
        np.testing.assert_array_equal(ALPHA / RANK * (b.astype(np.float64).T @ a.T), delta)
    assert take(tiny, "mlx", out, tmp_path / "again") == 0
    first, second = state_of(tiny, tmp_path / "run"), state_of(tiny, tmp_path / "again")
    for name, tensor in first.items():
        np.testing.assert_array_equal(second[name], tensor)
    assert main(arguments) == 2
    assert main([*arguments, "--force"]) == 0
