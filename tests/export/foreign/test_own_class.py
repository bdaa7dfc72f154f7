# SPDX-License-Identifier: Apache-2.0
"""Import of PEFT's IA3, RoAd and MiSS: what gsqc exported, and what PEFT itself saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("peft")

from gsqc.adapters.linears import LINEARS
from gsqc.bundle.bundle import Bundle
from gsqc.data.prompt import PromptForm
from gsqc.export.adapter import read_adapter
from gsqc.export.peft import CONFIG, write_peft
from gsqc.export.prompts import TrainedPrompts
from gsqc.runtime.store import RunStore
from tests.cli.run_command import Capture, run_text
from tests.export.foreign.conftest import tiny_bundle
from tests.export.foreign.taken import state_of, take

KINDS = ("peqa", "road:group=8", "miss:rank=8")
PROMPTS = TrainedPrompts(PromptForm(), None, None, "text", True)
TARGETS = ["q_proj", "v_proj", "down_proj"]


def bundle_of(folder: Path, text: str) -> Bundle:
    return tiny_bundle(folder / "b.gsqc", tuple(LINEARS), text)


def exported(bundle: Bundle, folder: Path) -> Path:
    """The export of a run with random numbers, of which a half are 1 or more."""
    draw, state = np.random.default_rng(3), bundle.plan.buffers["state"]
    numbers = {
        n: draw.integers(-(2**25), 2**25, t.count).astype(np.int32) for n, t in state.items()
    }
    store = RunStore(folder / "run", bundle)
    store.begin({})
    store.save_state(numbers, 3)
    write_peft(read_adapter(bundle, folder / "run"), "toy", folder / "peft", PROMPTS)
    return folder / "peft"


@pytest.mark.parametrize("text", KINDS)
def test_what_was_exported_comes_back_bit_for_bit(tmp_path: Path, text: str) -> None:
    bundle = bundle_of(tmp_path, text)
    path = exported(bundle, tmp_path)
    assert take(bundle, "peft", path, tmp_path / "again") == 0
    before, after = (state_of(bundle, tmp_path / name) for name in ("run", "again"))
    assert before.keys() == after.keys()
    for name, numbers in before.items():
        np.testing.assert_array_equal(numbers, after[name])


def saved_by_peft(folder: Path, kind: str, **settings: Any) -> dict[str, np.ndarray]:
    """PEFT's own adapter with random numbers, saved, and its tensors."""
    import peft

    from tests.models.capture.tiny import tiny_llama

    config = getattr(peft, f"{kind}Config")(target_modules=TARGETS, **settings)
    model, draw = peft.get_peft_model(tiny_llama(), config), torch.Generator().manual_seed(0)
    own = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for parameter in own.values():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.1 + 0.5)
    model.peft_config["default"].base_model_name_or_path = "toy"
    model.save_pretrained(folder)
    return {n: p.detach().double().numpy() for n, p in own.items()}


@pytest.mark.parametrize(
    ("text", "kind", "settings"),
    [
        ("peqa", "IA3", {"feedforward_modules": []}),
        ("road:group=8", "Road", {"group_size": 8}),
        ("miss:rank=8", "Miss", {"r": 8}),
    ],
)
def test_what_peft_saved_is_read(
    tmp_path: Path, text: str, kind: str, settings: dict[str, Any]
) -> None:
    """To 2^-25, by which a number is rounded, and RoAd's angles in float32 by as much again."""
    bundle, tensors = bundle_of(tmp_path, text), saved_by_peft(tmp_path / "p", kind, **settings)
    assert take(bundle, "peft", tmp_path / "p", tmp_path / "run") == 0
    state = {n: p * 2.0**-24 for n, p in state_of(bundle, tmp_path / "run").items()}
    place, peft = "model.layers.1.mlp.down_proj", "base_model.model.model.layers.1.mlp.down_proj"
    own = {n.removeprefix(f"{peft}.").split(".")[0]: t for n, t in tensors.items() if peft in n}
    expected = {
        "IA3": lambda: {"s": own["ia3_l"].reshape(1, -1) - 1},
        "Road": lambda: {
            "c": (own["road_alpha"] * np.cos(own["road_theta"]) - 1)[None],
            "s": (own["road_alpha"] * np.sin(own["road_theta"]))[None],
        },
        "Miss": lambda: {"m": own["miss_block"].T},
    }[kind]()
    for name, values in expected.items():
        np.testing.assert_allclose(state[f"{place}.{name}"], values, rtol=0, atol=2.0**-25)


@pytest.mark.parametrize(
    ("text", "kind", "settings", "says"),
    [
        ("peqa", "IA3", {"feedforward_modules": ["down_proj"]}, "feedforward_modules is"),
        ("road:group=8", "Road", {"variant": "road_2", "group_size": 8}, "variant is"),
        ("road:group=8", "Road", {"group_size": 16}, "group_size is 16 and not 8"),
        ("miss:rank=8", "Miss", {"r": 16}, "r is 16 and not 8"),
        ("miss:rank=8", "Miss", {"r": 8, "init_weights": "bat"}, "init_weights is"),
        ("miss:rank=8", "Miss", {"r": 8, "bias": "all"}, "bias is"),
        ("lora", "Miss", {"r": 8}, "compile the model with --adapter miss"),
    ],
)
def test_what_gsqc_does_not_have_is_refused(
    tmp_path: Path, capsys: Capture, text: str, kind: str, settings: dict[str, Any], says: str
) -> None:
    bundle = bundle_of(tmp_path, text)
    saved_by_peft(tmp_path / "p", kind, **settings)
    run = tmp_path / "run"
    code, _, errors = run_text(
        capsys, "import", bundle.path, "--peft", tmp_path / "p", "--run", run
    )
    assert code != 0 and says in errors, errors
    assert not run.exists()


def test_a_setting_that_is_not_known_is_refused(tmp_path: Path, capsys: Capture) -> None:
    bundle = bundle_of(tmp_path, "peqa")
    path = exported(bundle, tmp_path)
    config = json.loads((path / CONFIG).read_text())
    (path / CONFIG).write_text(json.dumps({**config, "later": True}))
    run = tmp_path / "again"
    code, _, errors = run_text(capsys, "import", bundle.path, "--peft", path, "--run", run)
    assert code != 0 and "later = true is not supported" in errors
