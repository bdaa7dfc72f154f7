# SPDX-License-Identifier: Apache-2.0
"""A run in other programs computes what the integer session computes, up to the format's rounding.

AGREEMENT bounds that rounding. 32 operands of 8 bits share an exponent. If they are normally
distributed, their RMS is 28 to 55 units of the last place. Rounding adds 0.29 units RMS, which is
0.5 to 1 % of an operand. A product has two operands, so it is off by 0.7 to 1.5 % of its RMS,
whatever its length. A path through two layers meets some ten products, whose errors add in
quadrature to 2 to 5 % of the logits. An adapter that is missing, or scaled or ordered wrongly, is
off by tens of percent, and the tests show that too.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file
from transformers import AutoTokenizer

from gsqc.cli.main import main
from gsqc.runtime.session import Session
from tests.end_to_end.trained import TEXT, Trained, export, float_model
from tests.export.float_model import distance, model_logits, session_logits, with_adapter
from tests.runtime.small_bundle import byte_tokenizer

AGREEMENT = 0.05
SUMMATION = 1e-5
"""Float32 programs that add the same products in another order."""


def test_peft_computes_what_the_session_computes(from_gguf: Trained) -> None:
    ours = session_logits(Session(from_gguf.bundle, from_gguf.run), TEXT)
    base = float_model(from_gguf.model)
    without = distance(ours, model_logits(base, TEXT))
    assert distance(ours, model_logits(with_adapter(base, from_gguf.peft), TEXT)) < AGREEMENT
    assert without > 3 * AGREEMENT


def test_the_adapter_is_exact_in_float32(from_directory: Trained) -> None:
    state = Session(from_directory.bundle, from_directory.run).state()
    tensors = load_file(from_directory.peft / "adapter_model.safetensors")
    assert len(tensors) == 2 * 2 * 7
    for name, tensor in tensors.items():
        layer, linear, part = name.split(".")[4], name.split(".")[6], name.split(".")[7]
        integers = state[f"layers.{layer}.{linear.removesuffix('_proj')}_{part[-1].lower()}"]
        np.testing.assert_array_equal(tensor.astype(np.float64).reshape(-1) * 2**24, integers)
    config = json.loads((from_directory.peft / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], len(config["target_modules"])) == (4, 8, 7)


@pytest.mark.parametrize("source", ["from_gguf", "from_directory"])
def test_a_merged_directory_is_base_and_adapter(
    source: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    trained: Trained = request.getfixturevalue(source)
    directory = trained.merged()
    merged = float_model(directory)
    ours, theirs = (
        session_logits(Session(trained.bundle, trained.run), TEXT),
        model_logits(merged, TEXT),
    )
    assert distance(ours, theirs) < AGREEMENT
    untrained = tmp_path / "untrained"
    Session(trained.bundle, untrained).save()
    export(trained.bundle, untrained, "--merged", tmp_path / "base", "--model", trained.model)
    on_top = with_adapter(float_model(tmp_path / "base"), trained.peft)
    assert distance(theirs, model_logits(on_top, TEXT)) < SUMMATION
    assert (
        AutoTokenizer.from_pretrained(directory).encode("ab") == byte_tokenizer().encode("ab").ids
    )


def test_merging_into_the_original_weights_is_another_model(from_directory: Trained) -> None:
    """The values of NF4 are 9 % off. peft's own merge is the reference."""
    merged = float_model(from_directory.merged("--base", "original", name="original"))
    reference = with_adapter(
        float_model(from_directory.model), from_directory.peft
    ).merge_and_unload()
    logits = model_logits(merged, TEXT)
    assert distance(logits, model_logits(reference, TEXT)) < SUMMATION
    ours = session_logits(Session(from_directory.bundle, from_directory.run), TEXT)
    assert distance(ours, logits) > 2 * AGREEMENT


def test_onnx_computes_what_the_merged_model_computes(from_directory: Trained) -> None:
    """It does so for any batch and length."""
    path = from_directory.folder / "onnx" / "m.onnx"
    export(
        from_directory.bundle, from_directory.run, "--onnx", path, "--model", from_directory.model
    )
    assert {p.name for p in path.parent.iterdir()} == {"m.onnx", "m.onnx.data"}
    program = onnxruntime.InferenceSession(path)
    merged = float_model(from_directory.merged())
    logits = program.run(None, {"input_ids": np.array([TEXT, TEXT[::-1]])})[0]
    for row, text in zip(logits, (TEXT, TEXT[::-1]), strict=True):
        assert distance(row, model_logits(merged, text)) < SUMMATION
    assert program.run(None, {"input_ids": np.array([TEXT[:1]])})[0].shape == (1, 1, 257)


def test_another_model_is_refused(
    from_gguf: Trained, from_directory: Trained, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for trained, model in ((from_gguf, from_directory.model), (from_directory, from_gguf.model)):
        arguments = ["--merged", tmp_path / "m", "--model", model]
        assert (
            main(["export", str(trained.bundle), "--run", str(trained.run), *map(str, arguments)])
            == 2
        )
        assert "is not the model that the bundle was compiled from" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
