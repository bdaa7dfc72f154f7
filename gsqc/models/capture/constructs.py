# SPDX-License-Identifier: Apache-2.0
"""What an operator that cannot be converted belongs to, by a name that users of models know.

A construct is found by the first entry whose patterns all fit: the operator with the reason of its
refusal, the classes of the modules that it stands in, and the source line. An operator without an
entry keeps its own name. The table names only. Which operators convert is said by `rules`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import torch.fx

Node = torch.fx.Node


class _Entry(NamedTuple):
    """A construct, and the patterns that are searched for. An empty pattern fits all.

    operator  the operator's name, with the reason of its refusal
    modules   classes of the modules that it stands in, the innermost last
    source    "file.py:12: code"
    """

    construct: str
    operator: str = ""
    modules: str = ""
    source: str = ""


_FORMULA = r"aten\.(pow|mean|rsqrt|sqrt|mul|div|add|sub|var|abs|_to_copy|to|type_as|norm|rms_norm)"
_MOVES = r"aten\.(split|chunk|slice|unbind|select|index|view|reshape|unsqueeze)|getitem"
_PRODUCTS = r"aten\.(matmul|bmm|baddbmm|softmax|_softmax|masked_fill|where|full|max|div|einsum)"
_ROTARY = "rotary embedding of another kind"
_PAIRS, _PART = "rope of neighbouring pairs", "rope on a part of a head"

_TABLE = (
    _Entry("mixture of experts", modules=r"Experts?\b|Moe|MoE|Router"),
    _Entry("short convolution", modules=r"ShortConv"),
    _Entry("state space layers", modules=r"Mamba|SSM|Mixer2"),
    _Entry("linear attention", modules=r"Rwkv|RWKV|GatedDelta|LinearAttention|RecurrentBlock"),
    _Entry("differential attention", modules=r"Diff\w*Attention"),
    _Entry("convolution", operator=r"aten\.(conv\dd|convolution)"),
    _Entry("ALiBi positions", source=r"alibi"),
    _Entry("LayerNorm of another form", operator=r"aten\.(native_)?layer_norm"),
    _Entry("LayerNorm of another form", operator=_FORMULA, modules=r"LayerNorm(1P)?$"),
    _Entry("RMS norm of another form", operator=_FORMULA, modules=r"Norm\w*$"),
    _Entry("linear stored transposed", operator=r"aten\.addmm", modules=r"Conv1D$"),
    _Entry("linear in the model's own code", operator=r"numpy_T|matmul", modules=r"Linear$"),
    _Entry(_PART, operator=r"aten\.cat|split|new_empty", source=r"_rot\b|_pass\b|_pe\b"),
    _Entry(_PAIRS, operator=r"repeat_interleave|stack", source=r"rotary|rope|emb|\bcos\b|\bsin\b"),
    _Entry(_PAIRS, source=r"rotate_every_two|view_as_complex|polar"),
    _Entry(_ROTARY, modules=r"Rotary\w*$"),
    _Entry(_ROTARY, source=r"apply_rotary|rotate_half"),
    _Entry(_ROTARY, modules=r"Attention$", source=r"sincos|embed_positions"),
    _Entry("values of another width than keys", operator=r"attention with values|linear of heads"),
    _Entry("positions of sines", operator=r"of numbers that no token changes"),
    _Entry("values of another width than keys", operator=_MOVES, source=r"kv_a_layernorm|kv_nope"),
    _Entry("fused q, k and v", operator=_MOVES, source=r"qkv|query_key_value|c_attn|Wqkv"),
    _Entry("fused gate and up", operator=_MOVES, source=r"gate_up|up_states|chunk\(2"),
    _Entry("gated attention", operator=rf"{_MOVES}|sigmoid", modules=r"Attention$", source=r"gate"),
    _Entry("a scale by position", modules=r"Attention$", source=r"attn_scale"),
    _Entry("learned positions", operator=r"aten\.embedding of", source=r"position|wpe"),
    _Entry("learned positions", operator=r"of a constant|index_select", source=r"position"),
    _Entry("softcap of attention", operator=r"aten\.(tanh|div)", source=r"attn\w*softcap"),
    _Entry(
        "softcap of the logits", operator=r"aten\.(tanh|div|mul)", source=r"softcap|tanh\(logits"
    ),
    _Entry("sliding window", source=r"sliding_window"),
    _Entry("attention in the model's own code", operator=_PRODUCTS, modules=r"Attention(\w|$)"),
    _Entry("attention in the model's own code", source=r"self\._attn\(|attention_scores"),
    _Entry("a scalar multiplier", operator=r"aten\.(mul|div|add|sub)\S* of the number"),
    _Entry("a scalar multiplier", operator=r"aten\.(mul|div|to)\b", source=r"scal|multiplier"),
)
_ACTIVATIONS = (
    (r"xielu", "xIELU"),
    (r"relu2|relusquared|squaredrelu|^square$", "squared ReLU"),
    (r"gelu|^erf$", "GELU"),
    (r"relu", "ReLU"),
    (r"silu|swish", "SiLU"),
    (r"^(tanh|sigmoid|softplus|hardtanh|mish|elu|leaky_relu)_?$", ""),
)
"""Patterns of an activation's module or operator, and its name. An empty one is the operator's."""
_ACTIVATION_MODULE = r"\w*(GELU|Gelu|ReLU|SiLU|IELU|Mish|Activation)\w*$"


def operator_name(node: Node) -> str:
    """aten.linear, aten.mul.Tensor, getitem."""
    target = str(node.target)
    known = target.startswith(("aten.", "gsqc."))
    return target.removesuffix(".default") if known else getattr(node.target, "__name__", target)


def module_classes(node: Node) -> str:
    """The classes of the modules that an exported node stands in, the innermost last."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return " ".join(str(kind).rsplit(".", 1)[-1].rstrip("'>") for _, kind in stack)


def construct_of(node: Node, operator: str, source: str) -> str | None:
    """The construct of an exported operator, or None. `operator` ends with the reason."""
    modules = module_classes(node)
    inside = re.search(_ACTIVATION_MODULE, modules)
    if inside is not None:
        return _activation(node, inside[0].lower())
    for entry in _TABLE:
        pairs = ((entry.operator, operator), (entry.modules, modules), (entry.source, source))
        if all(re.search(pattern, text) for pattern, text in pairs):
            return entry.construct
    return _activation(node, operator_name(node).removeprefix("aten.").split(".")[0])


def _activation(node: Node, kind: str) -> str | None:
    """An activation by the name of its module or operator."""
    for pattern, name in _ACTIVATIONS:
        if re.search(pattern, kind):
            how = "as the gate" if _is_gate(node) else "without a gate"
            return f"{name or kind.rstrip('_')} {how}"
    return None


def _is_gate(node: Node) -> bool:
    """Whether an activation, which may be of several operators, is multiplied by something else."""
    # The last operator of the activation's own module is the one whose users are outside of it.
    path, waiting, seen = module_classes(node), [node], {node}
    is_module = re.search(_ACTIVATION_MODULE, path) is not None
    while waiting:
        for user in waiting.pop().users:
            if is_module and module_classes(user) == path:
                if user not in seen:
                    seen.add(user)
                    waiting.append(user)
            elif "aten.mul" in str(user.target) and len(user.all_input_nodes) == 2:
                return True
    return False


def without_consequences(constructs: list[str]) -> list[str]:
    """The constructs, without what is only a part of another one of them."""
    found = dict.fromkeys(constructs)
    if {_PAIRS, _PART} & found.keys():
        found.pop(_ROTARY, None)
    return list(found)
