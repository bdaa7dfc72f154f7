# SPDX-License-Identifier: Apache-2.0
"""Runs that begin with an adapter: they compute what the adapter's own program computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from peft import LoraConfig, get_peft_model

from gsqc.check.sequences import random_sequences
from gsqc.cli.main import main
from gsqc.runtime.session import Session
from tests.end_to_end.test_export import AGREEMENT
from tests.end_to_end.test_session import RATE
from tests.end_to_end.trained import TEXT, Trained, export, float_model
from tests.export.float_model import distance, model_logits, session_logits


@pytest.mark.parametrize("kind", ["peft", "mlx", "gguf"])
def test_an_exported_adapter_comes_back_bit_for_bit(
    from_gguf: Trained, tmp_path: Path, kind: str
) -> None:
    """A run that begins with it computes what the first run computes."""
    place = tmp_path / ("adapter.gguf" if kind == "gguf" else "adapter")
    export(from_gguf.bundle, from_gguf.run, f"--{kind}", place)
    arguments = ["import", from_gguf.bundle, f"--{kind}", place, "--run", tmp_path / "run"]
    assert main([*map(str, arguments)]) == 0
    first, second = (
        Session(from_gguf.bundle, from_gguf.run),
        Session(from_gguf.bundle, tmp_path / "run"),
    )
    assert second.step_count == 0
    for name, tensor in first.state().items():
        if name.endswith(("_a", "_b")):
            np.testing.assert_array_equal(second.state()[name], tensor)
    batch = random_sequences(first.bundle, 99, 0)
    assert second.evaluate(batch) == first.evaluate(batch)
    assert second.step(batch, RATE).step == 1


def test_a_fitted_adapter_computes_what_peft_computes(from_gguf: Trained, tmp_path: Path) -> None:
    """rsLoRA at half the rank, two alphas, three linears. The bound is that of test_export.py.

    What the adapter lacks is trained from the first steps on: B first, and then A.
    """
    config = LoraConfig(
        r=2,
        lora_alpha=3,
        use_rslora=True,
        target_modules=["q_proj", "v_proj", "down_proj"],
        alpha_pattern={"layers.1.mlp.down_proj": 5},
        task_type="CAUSAL_LM",
    )
    base = float_model(from_gguf.model)
    without = model_logits(base, TEXT)
    model = get_peft_model(base, config).eval()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            rng = np.random.default_rng(len(name))
            parameter.data.copy_(parameter.data.new_tensor(rng.normal(0, 0.1, parameter.shape)))
    model.save_pretrained(tmp_path / "peft")
    arguments = ["import", from_gguf.bundle, "--peft", tmp_path / "peft", "--run", tmp_path / "run"]
    assert main([*map(str, arguments), "--any-base"]) == 0
    session = Session(from_gguf.bundle, tmp_path / "run")
    ours = session_logits(session, TEXT)
    assert distance(ours, model_logits(model, TEXT)) < AGREEMENT
    assert distance(ours, without) > 3 * AGREEMENT
    before = {name: tensor.copy() for name, tensor in session.state().items()}
    for k in (1, 2):
        session.step(random_sequences(session.bundle, k, 0), RATE)
    after = session.state()
    for name in ("layers.0.q", "layers.0.up"):
        a, b = f"{name}_a", f"{name}_b"
        assert (after[a] != before[a]).reshape(4, -1)[2:].any()
        assert (after[b] != before[b]).reshape(-1, 4)[:, 2:].any()
