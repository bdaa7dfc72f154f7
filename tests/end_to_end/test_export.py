# SPDX-License-Identifier: Apache-2.0
"""A run in other programs computes what the integer session computes, up to the format's rounding.

Why AGREEMENT has its size: 32 operands of 8 bits share an exponent, so normal ones lie at 28 to 55
units of the last place RMS, and rounding, 0.29 units RMS, is 0.5 to 1 % of them. Two operands: 0.7
to 1.5 % of a product's RMS, whatever its length. A path through two layers meets some ten products,
whose errors add in quadrature: 2 to 5 % of the logits. An adapter that is missing, or scaled or
ordered wrongly, is tens of percent away: the tests show that too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from gguf import GGUFReader
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.check.sequences import random_sequences
from gsqc.cli.main import main
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.export.adapter import TrainedAdapter, read_adapter
from gsqc.export.merge import MergedWeights, open_base
from gsqc.models import load_model
from gsqc.models.readers.gguf import GgufWeights
from gsqc.runtime.session import Session
from tests.end_to_end.test_session import RATE
from tests.export.float_model import distance, model_logits, session_logits, with_adapter
from tests.export.tiny_gguf import write_tiny_gguf
from tests.runtime.small_bundle import byte_tokenizer

TEXT = list(b"The rain in Spain stays ")
AGREEMENT = 0.05
SUMMATION = 1e-5
"""Float32 programs that add the same products in another order."""


def train(bundle: Path, path: Path) -> Path:
    """Twelve steps: enough that the adapter moves the logits by far more than AGREEMENT."""
    session = Session(bundle, path)
    for k in range(1, 13):
        session.step(random_sequences(session.bundle, k, 0), RATE)
    session.save()
    return path


def export(bundle: Path, run: Path, *arguments: object) -> None:
    assert main(["export", str(bundle), "--run", str(run), *map(str, arguments)]) == 0


class Trained:
    """A model's file, its bundle, a run of it, and its PEFT export."""

    def __init__(self, model: Path, bundle: Path, folder: Path) -> None:
        self.model, self.bundle, self.folder = model, bundle, folder
        self.run, self.peft = train(bundle, folder / "run"), folder / "peft"
        export(bundle, self.run, "--peft", self.peft)

    def adapter(self) -> TrainedAdapter:
        return read_adapter(Bundle.open(self.bundle), self.run)

    def merged(self, *arguments: object, name: str = "merged") -> Path:
        export(
            self.bundle,
            self.run,
            "--merged",
            self.folder / name,
            "--model",
            self.model,
            "--force",
            *arguments,
        )
        return self.folder / name


@pytest.fixture(scope="module")
def from_gguf(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The base keeps the file's own Q4_1 codes."""
    folder = tmp_path_factory.mktemp("gguf")
    model = write_tiny_gguf(folder / "tiny.gguf")
    options = CompileOptions(
        folder / "b.gsqc", base="gguf", adapter=Lora(4, 8), sequence_length=24, seed=1
    )
    compile_model(str(model), options)
    return Trained(model, options.output, folder)


@pytest.fixture(scope="module")
def from_directory(
    model_directory: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """The base is NF4 of float weights."""
    return Trained(model_directory, bundle, tmp_path_factory.mktemp("directory"))


def float_model(path: Path) -> Any:
    if path.is_file():
        return AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype="float32"
        ).eval()
    return AutoModelForCausalLM.from_pretrained(path).eval()


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
    """NF4 is 9 % off; peft's own merge is the reference."""
    merged = float_model(from_directory.merged("--base", "original", name="original"))
    reference = with_adapter(
        float_model(from_directory.model), from_directory.peft
    ).merge_and_unload()
    logits = model_logits(merged, TEXT)
    assert distance(logits, model_logits(reference, TEXT)) < SUMMATION
    ours = session_logits(Session(from_directory.bundle, from_directory.run), TEXT)
    assert distance(ours, logits) > 2 * AGREEMENT


@pytest.mark.parametrize(
    ("dtype", "limit"), [("f32", 0), ("f16", 2.0**-11), ("bf16", 2.0**-8), ("q8_0", 2.0**-7)]
)
def test_a_merged_gguf_holds_the_merged_weights(
    from_gguf: Trained, dtype: str, limit: float
) -> None:
    """The bounds are half a unit of the last place of each type, next to the largest number of its
    block.
    """
    path = from_gguf.merged("--dtype", dtype, name=f"{dtype}.gguf")
    bundle = Bundle.open(from_gguf.bundle)
    loaded, _ = open_base(bundle, str(from_gguf.model))
    expected = MergedWeights(bundle, loaded, from_gguf.adapter())
    weights = load_model(path).weights
    assert isinstance(weights, GgufWeights)
    for name in weights.names():
        wanted = expected.float32(name)
        assert np.abs(weights.float32(name) - wanted).max() <= limit * np.abs(wanted).max()
    before, after = GGUFReader(from_gguf.model), GGUFReader(path)
    stored = {t.name: t for t in before.tensors}
    for tensor in after.tensors:
        if not tensor.name.startswith("blk") or "norm" in tensor.name:
            np.testing.assert_array_equal(tensor.data, stored[tensor.name].data)
    changed = {"general.file_type", "GGUF.kv_count", "GGUF.tensor_count"}
    assert set(before.fields) == set(after.fields)
    for name in set(before.fields) - changed:
        assert before.fields[name].contents() == after.fields[name].contents()


def test_a_gguf_adapter_adds_what_the_merged_file_has(from_gguf: Trained) -> None:
    path = from_gguf.folder / "lora.gguf"
    export(from_gguf.bundle, from_gguf.run, "--gguf", path)
    reader = GGUFReader(path)
    text = {
        key: reader.fields[key].contents()
        for key in ("general.type", "general.architecture", "adapter.type")
    }
    assert text == {
        "general.type": "adapter",
        "general.architecture": "llama",
        "adapter.type": "lora",
    }
    scale = reader.fields["adapter.lora.alpha"].contents() / 4
    tensors = {t.name: t.data.astype(np.float64) for t in reader.tensors}
    merged = {
        t.name: t.data
        for t in GGUFReader(from_gguf.merged("--dtype", "f32", name="m.gguf")).tensors
    }
    base = load_model(from_gguf.model).weights
    assert isinstance(base, GgufWeights)
    assert len(tensors) == 2 * 2 * 7
    for name, stored in base.stored_names.items():
        if f"{stored}.lora_a" not in tensors:
            continue
        delta = scale * tensors[f"{stored}.lora_b"] @ tensors[f"{stored}.lora_a"]
        expected = base.in_file_order(name, base.float32(name)) + delta
        np.testing.assert_array_equal(merged[stored], expected.astype(np.float32))


def test_onnx_computes_what_the_merged_model_computes(from_directory: Trained) -> None:
    """Batch and length are free."""
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


def test_an_exported_adapter_comes_back_bit_for_bit(from_gguf: Trained, tmp_path: Path) -> None:
    """And a run that begins with it says what the first run says."""
    arguments = ["import", from_gguf.bundle, "--peft", from_gguf.peft, "--run", tmp_path / "run"]
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
