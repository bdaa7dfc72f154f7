# SPDX-License-Identifier: Apache-2.0
"""What capture gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch.fx

from gsqc.errors import ModelError
from gsqc.models import WeightSource, model_ops


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a decoder. `architecture` is Hugging Face's model type; `ffn` is the width of the
    feed-forward layer.
    """

    architecture: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    norm_eps: float
    tied_embeddings: bool

    @staticmethod
    def of(module: torch.nn.Module, graph: torch.fx.Graph) -> ModelConfig:
        """From the module's configuration; what was captured decides about eps, vocabulary and tied
        embeddings.
        """
        config: Any = module.config
        norms = [n for n in graph.nodes if n.target in (model_ops.rms_norm, model_ops.layer_norm)]
        tables = [n.args[1] for n in graph.nodes if n.target is model_ops.embedding]
        results: Any = graph.output_node().args[0]
        head: torch.fx.Node = results[0]
        after = (model_ops.scale, model_ops.softcap, model_ops.add_bias, model_ops.class_logits)
        while head.target in after:
            head = head.all_input_nodes[0]
        if not norms or len(tables) != 1 or head.target is not model_ops.linear:
            raise ModelError(
                "the model is no language model or classifier with one embedding, norms and a "
                "linear head",
                "gsqc compiles language models (…ForCausalLM) and, with --task classify, encoders",
            )
        try:
            heads, hidden = int(config.num_attention_heads), int(config.hidden_size)
            return ModelConfig(
                architecture=str(config.model_type),
                hidden=hidden,
                layers=int(config.num_hidden_layers),
                heads=heads,
                kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
                head_dim=int(getattr(config, "head_dim", None) or hidden // heads),
                ffn=_ffn(config, hidden),
                vocabulary=tables[0].meta["shape"][0],
                norm_eps=float(norms[-1].kwargs["eps"]),
                tied_embeddings=head.args[1] is tables[0],
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise ModelError(
                f"the model's configuration is incomplete: {error}", "see config.json of a Llama"
            ) from error


def _ffn(config: Any, hidden: int) -> int:
    """The width between the linears of a feed-forward layer; GPT-2's may be left out."""
    names = ("intermediate_size", "ffn_dim", "n_inner")
    return int(next((n for a in names if (n := getattr(config, a, None))), 4 * hidden))


def add_constant(
    constants: dict[str, npt.NDArray[np.float64]], name: str, numbers: npt.NDArray[np.float64]
) -> str:
    """Add a constant under its name, name_1, name_2 …, and give that. The same numbers are added
    once.
    """
    found, number = name, 0
    # A free name gives the numbers themselves, also if they are NaN, which equals nothing.
    while (known := constants.setdefault(found, numbers)) is not numbers:
        if np.array_equal(known, numbers):
            break
        number += 1
        found = f"{name}_{number}"
    return found


@dataclass
class CapturedModel:
    """A model as a graph of `gsqc.models.model_ops` calls, without a batch dimension.

    graph           the calls; its output is (logits [T, V],)
    constants       rope_cos and rope_sin, float64 [T, W / 2] for W rotated columns of a head
    weights         the parameters' numbers by name
    tokenizer_json  text of a tokenizer.json, or None if the model came without one
    metadata        that of the `LoadedModel`
    check           compares the graph with the program of the file that it came from, if it came
                    from one, and says how. Raises ModelError if they differ
    labels          the names of a classifier's classes, None for a language model

    The graph's placeholders are first `tokens` [T], then one for each parameter that is used
    (`meta["parameter"]` is its Hugging Face name; tied parameters share one), one for each rope
    table (`meta["constant"]`), and `positions` [T] if a table of them was learned
    (`meta["positions"]`). Every node has `meta["shape"]`. Calls have `meta["block"]` (the
    decoder layer's index, or None), `meta["module"]` and `meta["source"]` ("file.py:12: code").
    """

    graph: torch.fx.Graph
    config: ModelConfig
    constants: dict[str, npt.NDArray[np.float64]]
    weights: WeightSource
    tokenizer_json: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    check: Callable[[], str] | None = None
    labels: tuple[str, ...] | None = None
