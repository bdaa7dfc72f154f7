# SPDX-License-Identifier: Apache-2.0
"""mlx-lm computes what the session computes, under an adapter of either. MLX runs on CPUs too.

The bounds are those of test_export.py. Measured: 0.037 and 0.040 against the session, 5e-7 against
peft.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.cli.main import main
from gsqc.runtime.session import Session
from tests.end_to_end.test_export import AGREEMENT, SUMMATION
from tests.end_to_end.trained import TEXT, Trained, export, float_model
from tests.export.float_model import distance, model_logits, session_logits, with_adapter

mlx_lm = pytest.importorskip("mlx_lm")


@pytest.fixture(scope="module")
def base(from_directory: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base on which the bundle trains, as a directory for other programs."""
    folder = tmp_path_factory.mktemp("mlx")
    Session(from_directory.bundle, folder / "run").save()
    to = ("--merged", folder / "base", "--model", from_directory.model)
    export(from_directory.bundle, folder / "run", *to)
    return folder / "base"


def mlx_logits(model: Any) -> np.ndarray[Any, Any]:
    """The logits [T, V] of a model of mlx-lm."""
    import mlx.core as mx

    return np.array(model(mx.array([TEXT]))[0].astype(mx.float32)).astype(np.float64)


def test_mlx_lm_computes_what_the_session_computes(
    from_directory: Trained, base: Path, tmp_path: Path
) -> None:
    export(from_directory.bundle, from_directory.run, "--mlx", tmp_path / "mlx")
    ours = session_logits(Session(from_directory.bundle, from_directory.run), TEXT)
    plain, _ = mlx_lm.load(str(base))
    under, _ = mlx_lm.load(str(base), adapter_path=str(tmp_path / "mlx"))
    theirs = mlx_logits(under)
    assert distance(ours, theirs) < AGREEMENT
    assert distance(ours, mlx_logits(plain)) > 3 * AGREEMENT
    of_peft = model_logits(with_adapter(float_model(base), from_directory.peft), TEXT)
    assert distance(theirs, of_peft) < SUMMATION


def test_an_adapter_of_mlx_lm_begins_a_run(
    from_directory: Trained, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rank 3, a scale of 10, and the last layer only, saved as mlx_lm.lora saves it."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import save_config

    model, _ = mlx_lm.load(str(base))
    model.freeze()
    lora = {"rank": 3, "dropout": 0.0, "scale": 10.0}
    linear_to_lora_layers(model, 1, lora)
    mx.random.seed(1)
    trained = [
        (name, mx.random.normal(value.shape) * 0.05)
        for name, value in tree_flatten(model.trainable_parameters())
    ]
    model.load_weights(trained, strict=False)
    (tmp_path / "mlx").mkdir()
    mx.save_safetensors(str(tmp_path / "mlx" / "adapters.safetensors"), dict(trained))
    settings = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": lora, "iters": 5}
    save_config(settings | {"model": str(base)}, tmp_path / "mlx" / "adapter_config.json")
    place = ["--mlx", str(tmp_path / "mlx"), "--run", str(tmp_path / "run"), "--any-base"]
    assert main(["import", str(from_directory.bundle), *place]) == 0
    output = capsys.readouterr().out
    assert "B is multiplied by 5" in output and "(layer 0)" in output
    ours = session_logits(Session(from_directory.bundle, tmp_path / "run"), TEXT)
    assert distance(ours, mlx_logits(model)) < AGREEMENT
    plain, _ = mlx_lm.load(str(base))
    assert distance(ours, mlx_logits(plain)) > 3 * AGREEMENT
