# SPDX-License-Identifier: Apache-2.0
"""What the types of a GGUF file cost: held-out loss of a bundle that keeps them, of one in NF4, and
of the file itself in float32.

    python -m benchmarks.gguf_types --types q4_k_m,q6_k,q8_0,f16,mxfp4 --records 20

The files are made of SmolLM2-135M's weights by llama.cpp's own packing. Where its rows are no whole
blocks of 256, the type is the one that llama.cpp takes instead.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind

from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import Bits, CompileOptions
from gsqc.data import load_data
from gsqc.data.sequences import TokenSequence
from gsqc.data.tokenizer import Tokenizer
from gsqc.models import load_model
from gsqc.models.catalogue import find_model
from gsqc.runtime.session import Session
from gsqc.targets.registry import resolve_target
from tests.export.ggml_pack import pack

HELD_OUT = Path(__file__).parents[1] / "examples" / "devils-dictionary-heldout.jsonl"
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


def measured(path: Path, folder: Path, records: int) -> Iterator[tuple[str, float]]:
    """The loss of the file in float32, of a bundle that keeps its codes, and of one in NF4."""
    loaded = load_model(path)
    assert loaded.tokenizer_json is not None
    tokenizer = Tokenizer.of_model(loaded.tokenizer_json, loaded.metadata)
    sequences = list(load_data(HELD_OUT, tokenizer, LENGTH).sequences)[:records]
    yield "float32", float_loss(path, sequences)
    for base in ("gguf", "nf4"):
        output = folder / f"{base}.gsqc"
        options = CompileOptions(
            output,
            resolve_target("native"),
            Bits(4, 8, 8),
            base,
            sequence_length=LENGTH,
            force=True,
        )
        manifest = compile_model(str(path), options)
        yield base, float(Session(output).evaluate(sequences).loss)
        if base == "gguf":
            print(json.dumps({"kinds": sorted(set(manifest.base_kinds.values()))}), flush=True)


def main() -> None:
    """Measure each type."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", default=",".join(MIXES))
    parser.add_argument("--records", type=int, default=20)
    chosen = parser.parse_args()
    for name in chosen.types.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{name}.gguf")
            write_file(path, MIXES[name])
            losses = dict(measured(path, Path(folder), chosen.records))
            shown = {key: round(value, 4) for key, value in losses.items()}
            print(json.dumps({"type": name, "records": chosen.records, **shown}), flush=True)


if __name__ == "__main__":
    main()
