# SPDX-License-Identifier: Apache-2.0
"""The families of models, and how far each was tried: what `gsqc models` lists.

`python -m benchmarks.architectures` builds a tiny model of each type and says where this list is
wrong. A test captures each family that the list calls compiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Proof(Enum):
    """What a family was proved by. Each line holds what the lines below it hold."""

    REAL = "trained with real weights, held against PyTorch"
    RANDOM = "trained with random weights, held against PEFT"
    LOGITS = "captured, with the logits of transformers"
    REFUSED = "refused, with what is missing"


@dataclass(frozen=True)
class ModelFamily:
    """A family of models.

    type    transformers' model type, model_type in config.json
    models  what people know it by
    proof   how far it was tried
    note    a limit. For a refused one: the constructs that are missing
    """

    type: str
    models: str
    proof: Proof
    note: str = ""

    @property
    def compiles(self) -> bool:
        """Whether gsqc compiles it."""
        return self.proof is not Proof.REFUSED


def _refused(model_type: str, models: str, *constructs: str) -> ModelFamily:
    return ModelFamily(model_type, models, Proof.REFUSED, ", ".join(constructs))


_IN_WINDOW = "--seq within the model's window"
_BIAS, _QK, _NORM = "linear with a bias", "q/k norm", "LayerNorm"
_SCALE, _GEMMA_NORM = "a scalar multiplier", "RMS norm of another form"
_QKV, _GATE_UP = "fused q, k and v", "fused gate and up"
_GELU, _GELU_GATE = "GELU without a gate", "GELU as the gate"
_RELU2 = "squared ReLU without a gate"
_ROPE, _OWN_LINEAR = "rotary embedding of another kind", "linear in the model's own code"
_PART, _PAIRS = "rope on a part of a head", "rope of neighbouring pairs"
_EXPERTS, _LATENT = "mixture of experts", "values of another width than keys"
_OWN, _LEARNED = "attention in the model's own code", "learned positions"
_ALIBI, _SCAN, _WINDOW = "ALiBi positions", "state space layers", "sliding window"

# fmt: off
FAMILIES = (
    ModelFamily("llama", "Llama 1 to 3, TinyLlama, SmolLM2, Falcon 3", Proof.REAL),
    ModelFamily("mistral", "Mistral 7B, Nemo", Proof.RANDOM, _IN_WINDOW),
    ModelFamily("ministral", "Ministral 8B", Proof.RANDOM, _IN_WINDOW),
    ModelFamily("cwm", "Code World Model", Proof.RANDOM, _IN_WINDOW),
    ModelFamily("internlm3", "InternLM 3", Proof.RANDOM),
    ModelFamily("iquestcoder", "IQuest Coder", Proof.RANDOM),
    ModelFamily("smollm3", "SmolLM3", Proof.LOGITS),
    ModelFamily("olmo2", "OLMo 2", Proof.RANDOM),
    _refused("qwen2", "Qwen 2 and 2.5, R1-Distill-Qwen", _BIAS),
    _refused("qwen3", "Qwen 3", _QK),
    _refused("seed_oss", "Seed-OSS", _BIAS),
    _refused("granite", "Granite 3", _SCALE),
    _refused("gemma", "Gemma 1", _SCALE, _GEMMA_NORM, _GELU_GATE),
    _refused("gemma2", "Gemma 2", _SCALE, _GEMMA_NORM, _GELU_GATE, "softcaps", _WINDOW),
    _refused("gemma3_text", "Gemma 3", _SCALE, _GEMMA_NORM, _GELU_GATE, _QK, _WINDOW),
    _refused("vaultgemma", "VaultGemma", _SCALE, _GEMMA_NORM, _GELU_GATE, "softcaps", _WINDOW),
    _refused("olmo", "OLMo 1", _NORM),
    _refused("olmo3", "OLMo 3", _WINDOW),
    _refused("phi", "Phi 1, 1.5 and 2", _NORM, _PART, _GELU, _BIAS),
    _refused("phi3", "Phi 3, 3.5 and 4", _QKV, _GATE_UP),
    _refused("ministral3", "Ministral 3", "a scale by position"),
    _refused("exaone4", "EXAONE 4", _QK, _WINDOW),
    _refused("hunyuan_v1_dense", "Hunyuan dense", _QK),
    _refused("glm", "GLM-4 9B", _BIAS, _PAIRS, _GATE_UP),
    _refused("glm4", "GLM-4-0414", _BIAS, _PAIRS, _GATE_UP),
    _refused("ernie4_5", "ERNIE 4.5 0.3B", _PAIRS),
    _refused("helium", "Helium", _PAIRS),
    _refused("cohere", "Command R", _PAIRS, _NORM, _SCALE),
    _refused("cohere2", "Command R7B", _PAIRS, _NORM, _SCALE, _WINDOW),
    _refused("arcee", "AFM 4.5B", _RELU2),
    _refused("bitnet", "BitNet b1.58", "squared ReLU as the gate"),
    _refused("nemotron", "Nemotron, Minitron", _NORM, _RELU2, _PART),
    _refused("jais2", "Jais 2", _NORM, _RELU2, _BIAS),
    _refused("apertus", "Apertus", _QK, "xIELU without a gate"),
    _refused("nanochat", "nanochat", _GEMMA_NORM, _ROPE, _RELU2, "softcap of the logits"),
    _refused("stablelm", "StableLM", _NORM, _PART),
    _refused("starcoder2", "StarCoder2", _NORM, _GELU, _BIAS),
    _refused("gpt2", "GPT-2", _LEARNED, _NORM, "linear stored transposed", _QKV, _GELU),
    _refused("gpt_bigcode", "StarCoder 1", _LEARNED, _NORM, _QKV, _GELU, _BIAS),
    _refused("gpt_neo", "GPT-Neo, TinyStories", _LEARNED, _NORM, _OWN, _GELU, _BIAS),
    _refused("gpt_neox", "Pythia, GPT-NeoX", _NORM, _QKV, _GELU, _BIAS, _PART),
    _refused("gptj", "GPT-J", _NORM, _PAIRS, _PART, _OWN, _GELU, _BIAS),
    _refused("codegen", "CodeGen", _NORM, _QKV, _PAIRS, _PART, _OWN, _GELU, _BIAS),
    _refused("opt", "OPT", _LEARNED, _NORM, "ReLU without a gate", _BIAS, _SCALE),
    _refused("biogpt", "BioGPT", _SCALE, _LEARNED, _NORM, _GELU, _BIAS),
    _refused("xglm", "XGLM", _SCALE, _LEARNED, _NORM, _OWN, _GELU, _BIAS),
    _refused("persimmon", "Persimmon", _NORM, _QKV, _PART, _RELU2, _BIAS),
    _refused(
        "modernbert-decoder", "ModernBERT decoder",
        _NORM, _ROPE, _GATE_UP, _GELU_GATE, _GELU, _BIAS,
    ),
    _refused("bloom", "BLOOM", _ALIBI),
    _refused("falcon", "Falcon 7B and 40B", _NORM, _OWN_LINEAR, _QKV, _OWN, _GELU),
    _refused("mpt", "MPT", _ALIBI, _NORM, _QKV, _OWN, _GELU),
    _refused("mixtral", "Mixtral", _EXPERTS),
    _refused("qwen3_moe", "Qwen 3 with experts", _EXPERTS),
    _refused("olmoe", "OLMoE", _EXPERTS),
    _refused("gpt_oss", "gpt-oss", _EXPERTS, "attention sinks", _WINDOW),
    _refused("deepseek_v2", "DeepSeek V2", _PAIRS, _PART, _LATENT, _EXPERTS),
    _refused("deepseek_v3", "DeepSeek V3, R1", _PART, _EXPERTS, _LATENT),
    _refused("minicpm3", "MiniCPM 3", _SCALE, _PART, _LATENT),
    _refused("llama4_text", "Llama 4", _PAIRS, _GEMMA_NORM, _EXPERTS),
    _refused("diffllama", "DiffLlama", "differential attention"),
    _refused("lfm2", "LFM2", "short convolution", _QK),
    _refused(
        "qwen3_5_text", "Qwen 3.5",
        _GEMMA_NORM, "linear attention", "gated attention", _PART,
    ),
    _refused("granitemoehybrid", "Granite 4", _SCAN),
    _refused("mamba", "Mamba", _SCAN),
    _refused("mamba2", "Mamba 2", _SCAN),
    _refused("rwkv", "RWKV 4", "linear attention"),
    _refused("bert", "BERT", "attention that is not causal"),
)
# fmt: on
"""Every family that was tried. Others may compile: compile says what is missing."""

TEXT_PARTS = (
    *("llava", "llava_next", "mistral3", "internvl", "gemma3", "idefics3", "smolvlm"),
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl"),
)
"""Types of models that see, whose text part is taken. It compiles if its own family does."""
