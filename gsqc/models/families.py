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


_OTHER_NORM, _OTHER_RMS = "LayerNorm of another form", "RMS norm of another form"
_QKV, _LEARNED = "fused q, k and v", "learned positions"
_ROPE, _OWN_LINEAR = "rotary embedding of another kind", "linear in the model's own code"
_PART, _PAIRS = "rope on a part of a head", "rope of neighbouring pairs"
_ALL_EXPERTS = "every expert is computed, and experts are frozen"
_EXPERTS, _LATENT = "mixture of experts", "values of another width than keys"
_OWN, _ALIBI, _SCAN = "attention in the model's own code", "ALiBi positions", "state space layers"

# fmt: off
FAMILIES = (
    ModelFamily("llama", "Llama 1 to 3, TinyLlama, SmolLM2, Falcon 3", Proof.REAL),
    ModelFamily("mistral", "Mistral 7B, Nemo", Proof.RANDOM),
    ModelFamily("ministral", "Ministral 8B", Proof.RANDOM),
    ModelFamily("cwm", "Code World Model", Proof.RANDOM),
    ModelFamily("internlm3", "InternLM 3", Proof.RANDOM),
    ModelFamily("iquestcoder", "IQuest Coder", Proof.RANDOM),
    ModelFamily("smollm3", "SmolLM3", Proof.RANDOM),
    ModelFamily("olmo2", "OLMo 2", Proof.RANDOM),
    ModelFamily("qwen2", "Qwen 2 and 2.5, R1-Distill-Qwen", Proof.RANDOM),
    ModelFamily("qwen3", "Qwen 3", Proof.RANDOM),
    ModelFamily("seed_oss", "Seed-OSS", Proof.RANDOM),
    ModelFamily("granite", "Granite 3", Proof.RANDOM),
    ModelFamily("gemma", "Gemma 1", Proof.RANDOM),
    ModelFamily("gemma2", "Gemma 2", Proof.RANDOM),
    ModelFamily("gemma3_text", "Gemma 3", Proof.RANDOM),
    ModelFamily("vaultgemma", "VaultGemma", Proof.RANDOM),
    ModelFamily("olmo", "OLMo 1", Proof.RANDOM),
    ModelFamily("olmo3", "OLMo 3", Proof.RANDOM),
    ModelFamily("phi", "Phi 1, 1.5 and 2", Proof.RANDOM),
    ModelFamily("phi3", "Phi 3, 3.5 and 4", Proof.RANDOM),
    ModelFamily("ministral3", "Ministral 3", Proof.LOGITS, "up to the original context"),
    ModelFamily("exaone4", "EXAONE 4", Proof.RANDOM),
    ModelFamily("hunyuan_v1_dense", "Hunyuan dense", Proof.RANDOM),
    ModelFamily("glm", "GLM-4 9B", Proof.RANDOM),
    ModelFamily("glm4", "GLM-4-0414", Proof.RANDOM),
    ModelFamily("ernie4_5", "ERNIE 4.5 0.3B", Proof.RANDOM),
    ModelFamily("helium", "Helium", Proof.RANDOM),
    ModelFamily("cohere", "Command R", Proof.RANDOM),
    ModelFamily("cohere2", "Command R7B", Proof.RANDOM),
    ModelFamily("arcee", "AFM 4.5B", Proof.RANDOM),
    ModelFamily("bitnet", "BitNet b1.58", Proof.RANDOM),
    ModelFamily("nemotron", "Nemotron, Minitron", Proof.RANDOM),
    ModelFamily("jais2", "Jais 2", Proof.RANDOM),
    ModelFamily("apertus", "Apertus", Proof.LOGITS),
    _refused("nanochat", "nanochat", _OTHER_RMS, _ROPE),
    ModelFamily("stablelm", "StableLM", Proof.RANDOM),
    ModelFamily("starcoder2", "StarCoder2", Proof.RANDOM),
    ModelFamily("gpt2", "GPT-2", Proof.RANDOM),
    ModelFamily("gpt_bigcode", "StarCoder 1", Proof.RANDOM),
    ModelFamily("gpt_neo", "GPT-Neo, TinyStories", Proof.RANDOM),
    ModelFamily("gpt_neox", "Pythia, GPT-NeoX", Proof.RANDOM),
    _refused("gptj", "GPT-J", _PAIRS, _PART),
    _refused("codegen", "CodeGen", _QKV, _PAIRS, _PART),
    ModelFamily("opt", "OPT", Proof.RANDOM),
    ModelFamily("biogpt", "BioGPT", Proof.RANDOM),
    _refused("xglm", "XGLM", "positions of sines"),
    ModelFamily("persimmon", "Persimmon", Proof.RANDOM),
    _refused("modernbert-decoder", "ModernBERT decoder", "a head of several linears"),
    ModelFamily("bloom", "BLOOM", Proof.RANDOM),
    ModelFamily("falcon", "Falcon 7B, Falcon-RW", Proof.RANDOM),
    ModelFamily("mpt", "MPT", Proof.RANDOM),
    ModelFamily("mixtral", "Mixtral", Proof.RANDOM, _ALL_EXPERTS),
    ModelFamily("qwen3_moe", "Qwen 3 with experts", Proof.RANDOM, _ALL_EXPERTS),
    ModelFamily("olmoe", "OLMoE", Proof.RANDOM, _ALL_EXPERTS),
    ModelFamily("gpt_oss", "gpt-oss", Proof.RANDOM, _ALL_EXPERTS),
    _refused("deepseek_v2", "DeepSeek V2", _PAIRS, _PART, _LATENT, _EXPERTS),
    _refused("deepseek_v3", "DeepSeek V3, R1", _PART, _EXPERTS, _LATENT),
    _refused("minicpm3", "MiniCPM 3", _PART, _LATENT),
    _refused("llama4_text", "Llama 4", _PAIRS, _OTHER_RMS, _EXPERTS),
    _refused("diffllama", "DiffLlama", "differential attention"),
    _refused("lfm2", "LFM2", "short convolution"),
    _refused("qwen3_5_text", "Qwen 3.5", "linear attention", "gated attention"),
    _refused("granitemoehybrid", "Granite 4", _SCAN),
    _refused("mamba", "Mamba", _SCAN),
    _refused("mamba2", "Mamba 2", _SCAN),
    _refused("rwkv", "RWKV 4", "linear attention"),
    _refused("bert", "BERT", "attention that is not causal"),
)
# fmt: on
"""Every family that was tried. Others may compile: compile says what is missing."""

ENCODERS = (
    ModelFamily("bert", "BERT, MiniLM, sentence encoders of its form", Proof.REAL),
    ModelFamily("roberta", "RoBERTa", Proof.RANDOM),
    ModelFamily("distilbert", "DistilBERT", Proof.RANDOM),
    ModelFamily("modernbert", "ModernBERT", Proof.RANDOM),
)
"""Encoders, which compile as classifiers of texts: gsqc compile --task classify."""

TEXT_PARTS = (
    *("llava", "llava_next", "mistral3", "internvl", "gemma3", "idefics3", "smolvlm"),
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl"),
)
"""Types of models that see, whose text part is taken. It compiles if its own family does."""
