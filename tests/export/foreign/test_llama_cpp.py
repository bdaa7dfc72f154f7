# SPDX-License-Identifier: Apache-2.0
"""Adapters of llama.cpp: an export comes back bit for bit, and files of others add the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from gsqc.adapters.linears import LINEARS
from gsqc.bundle.bundle import Bundle
from gsqc.cli.main import main
from tests.export.foreign.conftest import HEADS, KEY_VALUE_HEADS, SIZES, module
from tests.export.foreign.taken import added, state_of, take

Tensors = dict[str, np.ndarray[Any, Any]]
TYPES = gguf.GGMLQuantizationType


def random(rank: int, linears: tuple[str, ...] = tuple(SIZES)) -> dict[str, Tensors]:
    """A [rank, k] and B [n, rank] by Hugging Face's name, in Hugging Face's order of rows."""
    rng = np.random.default_rng(5)
    return {
        module(short, layer): {
            "a": rng.normal(0, 0.1, (rank, SIZES[short][1])).astype(np.float32),
            "b": rng.normal(0, 0.1, (SIZES[short][0], rank)).astype(np.float32),
        }
        for layer in range(2)
        for short in linears
    }


def permuted(rows: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """LlamaModel.permute of llama.cpp's convert_hf_to_gguf.py, which convert_lora_to_gguf.py
    applies to lora_b.
    """
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def write(
    path: Path,
    matrices: dict[str, Tensors],
    *,
    alpha: float | None = 8.0,
    kind: str = "adapter",
    adapter: str = "lora",
    architecture: str = "llama",
    stored: Any = TYPES.F32,
    extra: Tensors | None = None,
    alora: bool = False,
) -> Path:
    """A file as convert_lora_to_gguf.py writes it."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(kind)
    writer.add_string("adapter.type", adapter)
    if alpha is not None:
        writer.add_float32("adapter.lora.alpha", alpha)
    if alora:
        writer.add_array("adapter.alora.invocation_tokens", [1, 2])
    tensors = dict(extra or {})
    for name, halves in matrices.items():
        layer, short = name.split(".")[2], next(s for s in LINEARS if LINEARS[s].module in name)
        heads = {"q": HEADS, "k": KEY_VALUE_HEADS}.get(short)
        start = f"blk.{layer}.{LINEARS[short].gguf}.weight"
        tensors[f"{start}.lora_a"] = halves["a"]
        tensors[f"{start}.lora_b"] = permuted(halves["b"], heads) if heads else halves["b"]
    for name, tensor in tensors.items():
        kept = tensor.shape[-1] % 32 != 0  # rows of 32 numbers at least can be quantised
        form = TYPES.F32 if kept else stored
        writer.add_tensor(name, gguf.quants.quantize(tensor, form), raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("stored", [TYPES.F32, TYPES.F16, TYPES.BF16, TYPES.Q8_0])
def test_a_file_of_llama_cpp_adds_what_it_says(tiny: Bundle, tmp_path: Path, stored: Any) -> None:
    matrices = random(2, ("q", "k", "up"))
    file = write(tmp_path / "lora.gguf", matrices, alpha=3.0, stored=stored)
    assert take(tiny, "gguf", file, tmp_path / "run") == 0
    for name, delta in added(tiny, tmp_path / "run").items():
        if name not in matrices:
            assert not delta.any()
            continue
        # What the file holds. gguf's own quantisation is the reference for the types of A.
        a = gguf.quants.dequantize(gguf.quants.quantize(matrices[name]["a"], stored), stored)
        expected = 1.5 * matrices[name]["b"].astype(np.float64) @ a.astype(np.float64)
        np.testing.assert_allclose(delta, expected, rtol=0, atol=1e-6)


def test_an_alpha_of_zero_is_a_scale_of_one(
    tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrices = random(4, ("q",))
    for number, alpha in enumerate((0.0, None)):
        file = write(tmp_path / f"{number}.gguf", matrices, alpha=alpha)
        assert take(tiny, "gguf", file, tmp_path / f"run{number}") == 0
        assert "for which llama.cpp takes a scale of 1" in capsys.readouterr().out
        delta = added(tiny, tmp_path / f"run{number}")[module("q", 0)]
        wanted = matrices[module("q", 0)]
        expected = wanted["b"].astype(np.float64) @ wanted["a"]
        np.testing.assert_allclose(delta, expected, rtol=0, atol=1e-6)


def test_an_export_comes_back_bit_for_bit(tiny: Bundle, tmp_path: Path) -> None:
    assert take(tiny, "gguf", write(tmp_path / "a.gguf", random(4)), tmp_path / "run") == 0
    out = tmp_path / "out.gguf"
    assert main(["export", str(tiny.path), "--run", str(tmp_path / "run"), "--gguf", str(out)]) == 0
    assert take(tiny, "gguf", out, tmp_path / "again") == 0
    first, second = state_of(tiny, tmp_path / "run"), state_of(tiny, tmp_path / "again")
    for name, tensor in first.items():
        np.testing.assert_array_equal(second[name], tensor)
    ours, theirs = gguf.GGUFReader(out), gguf.GGUFReader(tmp_path / "a.gguf")
    assert {t.name for t in ours.tensors} == {t.name for t in theirs.tensors}
    stored = {t.name: t.data for t in theirs.tensors}
    for tensor in ours.tensors:
        np.testing.assert_allclose(tensor.data, stored[tensor.name], rtol=0, atol=2.0**-25)


SQUARE = np.zeros((64, 64), np.float32)
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a model": ({"kind": "model"}, "is a model, not an adapter"),
    "a control vector": ({"adapter": "control"}, "an adapter of the type control"),
    "another architecture": ({"architecture": "qwen2"}, "is for the architecture qwen2"),
    "aLoRA": ({"alora": True}, "begins to work at certain tokens"),
    "an alpha below 0": ({"alpha": -1.0}, "has an alpha of -1.0"),
    "NaN as an alpha": ({"alpha": float("nan")}, "has an alpha of NaN"),
    "a norm": ({"extra": {"blk.0.attn_norm.weight": SQUARE[0]}}, "attn_norm.weight that is no"),
    "one matrix": (
        {"extra": {"blk.1.attn_v.weight.lora_a": SQUARE[:4]}},
        "has blk.1.attn_v.weight.lora_a alone",
    ),
    "the head": (
        {"extra": {"output.weight.lora_a": SQUARE[:4], "output.weight.lora_b": SQUARE[:, :4]}},
        "a LoRA of output, outside the layers; merge it into its model with llama.cpp",
    ),
    "another model's heads": (
        {"extra": {"blk.1.attn_q.weight.lora_a": SQUARE[:4], "blk.1.attn_q.weight.lora_b": SQUARE}},
        "B of model.layers.1.self_attn.q_proj has the shape [64, 64]",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(
    tiny: Bundle, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, text = BAD[case]
    matrices = {name: m for name, m in random(4, ("q",)).items() if "layers.0" in name}
    file = write(tmp_path / "lora.gguf", matrices, **changes)
    assert take(tiny, "gguf", file, tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1, error
    assert not (tmp_path / "run").exists()


def test_a_damaged_file_ends_in_a_sentence(
    tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "lora.gguf", random(4, ("q",)))
    content = file.read_bytes()
    for length in (0, 3, 20, 200, len(content) - 1):
        file.write_bytes(content[:length])
        assert take(tiny, "gguf", file, tmp_path / "run") == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert take(tiny, "gguf", tmp_path / "absent.gguf", tmp_path / "run") == 2
    assert "there is no file" in capsys.readouterr().err
