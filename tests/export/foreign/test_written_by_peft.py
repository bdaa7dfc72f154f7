# SPDX-License-Identifier: Apache-2.0
"""Adapters that the peft library wrote add to each linear what peft says that they add.

The reference is get_delta_weight of peft's own layers. Both sides hold rounded numbers: peft's are
float32, the run's have 24 fraction bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft import LoraConfig, get_peft_model

from gsqc.bundle.bundle import Bundle
from tests.export.foreign.taken import added, take
from tests.export.foreign.written import PLAIN, load, write

AGREEMENT = 2e-6
"""A number of B·A is a sum of 4 products of numbers below 1. Each number is off by 2^-25 in the
run, and each product by 2^-24 of itself in peft. 8 · 2^-25 · 2 (the scale) is 5e-7, and a scale of
16 makes four times as much of it.
"""


def deltas(model: Any) -> dict[str, np.ndarray[Any, Any]]:
    """What each layer of peft adds to its weight, by Hugging Face's name."""
    return {
        name.removeprefix("base_model.model."): layer.get_delta_weight("default").detach().numpy()
        for name, layer in model.named_modules()
        if isinstance(layer, peft.tuners.lora.Linear)
    }


TAKEN: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "plain": ({}, ()),
    "all linears": ({"target_modules": "all-linear"}, ()),
    "gaussian": ({"init_lora_weights": "gaussian"}, ()),
    "orthogonal": ({"init_lora_weights": "orthogonal"}, ()),
    "dropout": ({"lora_dropout": 0.1}, ("trained with dropout",)),
    "alpha 8.0": ({"lora_alpha": 8.0}, ()),
    "fan_in_fan_out": ({"fan_in_fan_out": True}, ()),
    "rsLoRA of the same scale": (
        {"lora_alpha": 4, "use_rslora": True},
        ("note: it is rsLoRA, whose scale is alpha / √rank\n",),
    ),
    "rsLoRA of another scale": (
        {"r": 3, "use_rslora": True},
        (
            "whose scale is alpha / √rank",
            "its scale is 4.6188 and the bundle's 2, so B is multiplied by 2.3094",
            "its rank is 3",
        ),
    ),
    "another alpha": (
        {"lora_alpha": 6},
        ("its scale is 1.5 and the bundle's 2, so B is multiplied by 0.75",),
    ),
    "a smaller rank": ({"r": 2, "lora_alpha": 4}, ("its rank is 2, the bundle's 4",)),
    "another rank and scale": (
        {"r": 1, "lora_alpha": 16},
        ("B is multiplied by 8", "its rank is 1"),
    ),
    "alpha by name": (
        {
            "alpha_pattern": {
                "q_proj": 16,
                "model.layers.1.mlp.up_proj": 4,
                "^model.layers.0.mlp.down_proj": 2,
            }
        },
        ("B is multiplied by 0.25 to 2",),
    ),
    "rank by name": (
        {"rank_pattern": {"q_proj": 2, "v_proj": 1}},
        ("B is multiplied by 1 to 4", "its rank is 1 to 4"),
    ),
    "q and v": (
        {"target_modules": ["q_proj", "v_proj"]},
        ("10 of 14 linears have no weights in it (k+o+gate+up+down)",),
    ),
    "q and v by a regex": ({"target_modules": r".*\.(q|v)_proj"}, ("(k+o+gate+up+down)",)),
    "without mlp": ({"exclude_modules": r".*mlp.*"}, ("(gate+up+down)",)),
    "one layer": (
        {"layers_to_transform": [1]},
        ("7 of 14 linears have no weights in it (layer 0)",),
    ),
    "linears that differ by layer": (
        {"target_modules": ["layers.0.self_attn.q_proj", "layers.1.self_attn.v_proj"]},
        ("12 of 14 linears have no weights in it (k+o+gate+up+down and others)",),
    ),
}


@pytest.mark.parametrize("case", TAKEN)
def test_what_is_taken_adds_the_same(
    tiny: Bundle, base: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, told = TAKEN[case]
    model = write(base, tmp_path / "peft", LoraConfig(**(PLAIN | changes)))
    assert take(tiny, "peft", tmp_path / "peft", tmp_path / "run") == 0
    output = capsys.readouterr().out
    assert all(text in output for text in told), output
    assert output.count("note:") == len(told)
    expected = deltas(model)
    for name, delta in added(tiny, tmp_path / "run").items():
        np.testing.assert_allclose(delta, expected.pop(name, 0), rtol=0, atol=AGREEMENT)
    assert not expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_numbers_of_16_bits(tiny: Bundle, base: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    model = write(base, tmp_path / "peft", LoraConfig(**PLAIN), dtype)
    assert take(tiny, "peft", tmp_path / "peft", tmp_path / "run") == 0
    expected = deltas(model)
    for name, delta in added(tiny, tmp_path / "run").items():
        np.testing.assert_allclose(delta, expected[name], rtol=0, atol=AGREEMENT)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_what_peft_makes_plain_is_taken(
    tiny: Bundle, base: Path, tmp_path: Path, init: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An adapter that changes its base is refused. As peft converts it, at twice the rank, it adds
    the difference to the base as it was.
    """
    config = LoraConfig(**(PLAIN | {"r": 2, "init_lora_weights": init}))
    model = get_peft_model(load(base), config)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "before")
    model.peft_config["default"].init_lora_weights = init
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.add_(0.01)
    model.save_pretrained(tmp_path / "as-it-is")
    assert take(tiny, "peft", tmp_path / "as-it-is", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "changes the base's weights" in error
    assert "path_initial_model_for_weight_conversion" in error
    model.save_pretrained(
        tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "before")
    )
    assert take(tiny, "peft", tmp_path / "plain", tmp_path / "run") == 0
    before = {n: p.detach().clone() for n, p in load(base).named_parameters()}
    merged = model.merge_and_unload().state_dict()
    for name, delta in added(tiny, tmp_path / "run").items():
        wanted = merged[f"{name}.weight"] - before[f"{name}.weight"]
        # Both are differences of weights of up to 3 in float32.
        np.testing.assert_allclose(delta, wanted.numpy(), rtol=0, atol=1e-5)


def test_an_adapter_with_a_name_lies_in_a_subfolder(
    tiny: Bundle, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """peft puts every adapter but `default` into a folder of its own."""
    config = LoraConfig(**PLAIN)
    model = get_peft_model(load(base), config, adapter_name="first")
    model.save_pretrained(tmp_path / "peft")
    assert take(tiny, "peft", tmp_path / "peft", tmp_path / "run") == 0
    assert "note: the adapter is that of its subfolder first" in capsys.readouterr().out
    model.add_adapter("second", config)
    model.save_pretrained(tmp_path / "peft")
    assert take(tiny, "peft", tmp_path / "peft", tmp_path / "run2") == 2
    error = capsys.readouterr().err
    assert "holds 2 adapters: first, second" in error and "--subfolder first" in error
    chosen = ("--subfolder", "second")
    assert take(tiny, "peft", tmp_path / "peft", tmp_path / "run2", *chosen) == 0
