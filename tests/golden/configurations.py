# SPDX-License-Identifier: Apache-2.0
"""The table of small fixed configurations that have golden files, and the models that they take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsqc.adapters import parse_adapter
from gsqc.compiler.options import Bits, CompileOptions
from gsqc.numerics.optim import parse_optimizer


@dataclass(frozen=True)
class Model:
    """The sizes of a small Llama. `tied` models read tokens and write logits with one table."""

    layers: int = 2
    heads: int = 2
    key_value_heads: int = 1
    head_dim: int = 16
    intermediate: int = 64
    tied: bool = True


MODELS = {"tied": Model(), "untied": Model(key_value_heads=2, tied=False)}


@dataclass(frozen=True)
class Configuration:
    """A row of the table. `dumped` keeps the printed graph after each pass too."""

    name: str
    model: str
    bits: str
    base: str
    adapter: str
    optimizer: str
    sequence_length: int
    batch: int
    recompute: str
    weights: str
    dumped: bool

    def options(self, output: Path, target: str, dump: Path | None = None) -> CompileOptions:
        """The row as options of a compilation."""
        return CompileOptions(
            output,
            target,
            bits=Bits.parse(self.bits),
            base=self.base,
            adapter=parse_adapter(self.adapter),
            optimizer=parse_optimizer(self.optimizer),
            sequence_length=self.sequence_length,
            batch=self.batch,
            seed=1,
            recompute=self.recompute,
            weights=self.weights,
            dump=dump,
        )


_ALL, _QV = "lora:rank=4,alpha=8", "lora:rank=8,alpha=8,linears=q+v"
_ROWS = """
name        model   bits   base  adapter  optimizer  tokens  batch  recompute  weights  dumped
plain       tied    4-8-8  nf4   all      adamw      24      1      blocks     fast     -
batch       tied    4-6-6  nf4   all      adamw      16      2      blocks     fast     -
narrow      tied    4-5-5  nf4   q+v      adamw      16      1      blocks     fast     -
wide-base   tied    8-8-8  gse8  q+v      adamw      16      1      blocks     fast     -
sgd         tied    4-8-8  gse4  all      sgd        16      1      blocks     fast     -
small       tied    4-8-8  nf4   q+v      adamw      16      1      auto       small    -
kept        tied    4-8-8  nf4   q+v      adamw      16      1      none       fast     dumped
long        tied    4-7-6  nf4   q+v      adamw      96      1      blocks     fast     -
untied      untied  4-8-7  gse4  q+v      sgd        16      1      blocks     small    dumped
"""


def _configuration(line: str) -> Configuration:
    name, model, bits, base, adapter, optimizer, *rest = line.split()
    tokens, batch, recompute, weights, dumped = rest
    return Configuration(
        name,
        model,
        bits,
        base,
        {"all": _ALL, "q+v": _QV}[adapter],
        optimizer,
        int(tokens),
        int(batch),
        recompute,
        weights,
        dumped == "dumped",
    )


CONFIGURATIONS = {line.split()[0]: _configuration(line) for line in _ROWS.strip().splitlines()[1:]}
