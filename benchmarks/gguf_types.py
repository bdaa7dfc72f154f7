# SPDX-License-Identifier: Apache-2.0
"""What the types of a GGUF file cost: held-out losses of the file in float32 and in llama.cpp, and
of bundles that keep its codes or have NF4 in their place. Then the loss after some steps of
training, and llama.cpp's with the adapter on the same file.

    python -m benchmarks.gguf_types --types q4_k_m,q6_k,q8_0,f16,mxfp4 --records 20

The files are made of SmolLM2-135M's weights by llama.cpp's own packing. Where its rows are no whole
blocks of 256, the type is the one that llama.cpp takes instead.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind

import gsqc
from benchmarks.llama_cpp_loss import loss_in_llama_cpp
from gsqc.bundle.bundle import Bundle
from gsqc.data import load_data
from gsqc.data.sequences import TokenSequence
from gsqc.data.tokenizer import Tokenizer
from gsqc.models import load_model
from gsqc.models.catalogue import find_model
from gsqc.runtime.session import Session
from tests.export.ggml_pack import pack

EXAMPLES = Path(__file__).parents[1] / "examples"
TRAIN = EXAMPLES / "devils-dictionary-train.jsonl"
HELD_OUT = EXAMPLES / "devils-dictionary-heldout.jsonl"
LENGTH = 128
FALLBACK = {Kind.Q4_K: Kind.Q5_0, Kind.Q6_K: Kind.Q8_0}


def q4_k_m(layer: int, layers: int, name: str) -> Kind:
    """llama.cpp's choice: more bits for v and down in the first and last eighth and each third."""
    more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    return Kind.Q6_K if more and name in ("attn_v", "ffn_down") else Kind.Q4_K


def _same(kind: Kind) -> Callable[[int, int, str], Kind]:
    return lambda *_: kind


MIXES = {
    "q4_k_m": q4_k_m,
    **{kind.name.lower(): _same(kind) for kind in (Kind.Q6_K, Kind.Q8_0, Kind.F16, Kind.MXFP4)},
}


def write_file(path: Path, choose: Callable[[int, int, str], Kind]) -> None:
    """SmolLM2-135M with its linears in other types. What is no linear stays as it is."""
    reader = gguf.GGUFReader(find_model("smollm2-135m"))
    writer = gguf.GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind = field.types[0]
            element = field.types[-1] if kind is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, sub_type=element)
    layers = 1 + max(int(t.name.split(".")[1]) for t in reader.tensors if t.name[:4] == "blk.")
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        if parts[0] != "blk" or len(tensor.shape) < 2:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        weight = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        kind = choose(int(parts[1]), layers, parts[2])
        if weight.shape[1] % gguf.GGML_QUANT_SIZES[kind][0]:
            kind = FALLBACK[kind]
        packed = pack(np.ascontiguousarray(weight, np.float32), kind)
        writer.add_tensor(tensor.name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def float_loss(path: Path, sequences: list[TokenSequence]) -> float:
    """The mean loss of counted tokens in transformers, in nats."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype="float32")
    total, count = 0.0, 0
    for sequence in sequences:
        with torch.no_grad():
            logits = model(torch.tensor(sequence.tokens[None].astype(np.int64))).logits[0]
        losses = torch.nn.functional.cross_entropy(
            logits, torch.tensor(sequence.labels.astype(np.int64)), reduction="none"
        )
        total += float(losses[torch.tensor(sequence.weights > 0)].sum())
        count += sequence.weighted_tokens
    return total / count


def measured(path: Path, folder: Path, records: int, steps: int) -> Iterator[tuple[str, Any]]:
    """What is measured of a file, by name: kinds of codes and losses."""
    loaded = load_model(path)
    assert loaded.tokenizer_json is not None
    tokenizer = Tokenizer.of_model(loaded.tokenizer_json, loaded.metadata)
    sequences = list(load_data(HELD_OUT, tokenizer, LENGTH).sequences)[:records]
    yield "float32", float_loss(path, sequences)
    yield "llama.cpp", loss_in_llama_cpp(path, sequences)
    for base in ("nf4", "gguf"):
        bundle = gsqc.compile(path, folder / f"{base}.gsqc", base=base, seq=LENGTH)
        yield base, float(Session(bundle).evaluate(sequences).loss)
    yield "kinds", sorted(set(Bundle.open(bundle).manifest.base_kinds.values()))
    run, adapter = folder / "run", folder / "adapter.gguf"
    gsqc.train(bundle, TRAIN, run=run, steps=steps, progress=False)
    yield "trained", float(Session(bundle, run).evaluate(sequences).loss)
    export = [sys.executable, "-m", "gsqc", "export", bundle, "--run", run, "--gguf", adapter]
    subprocess.run(export, check=True, capture_output=True)
    yield "trained, in llama.cpp", loss_in_llama_cpp(path, sequences, adapter)


def main() -> None:
    """Measure each type."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", default=",".join(MIXES))
    parser.add_argument("--records", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    chosen = parser.parse_args()
    for name in chosen.types.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{name}.gguf")
            write_file(path, MIXES[name])
            found = dict(measured(path, Path(folder), chosen.records, chosen.steps))
            shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}
            print(json.dumps({"type": name, "records": chosen.records, **shown}), flush=True)


if __name__ == "__main__":
    main()
