# SPDX-License-Identifier: Apache-2.0
"""write_gguf_adapter: writes the adapter as the GGUF file that llama.cpp takes with --lora.

blk.N.attn_q.weight.lora_a  float32 [rank, k], and so for each linear
blk.N.attn_q.weight.lora_b  float32 [n, rank]
adapter.lora.alpha          llama.cpp divides it by the rank
tokenizer.chat_template     that of the run's prompts, if the base's own is another. llama.cpp takes
                            the base's, so this one has to be given (--chat-template-file)

The layout is that of convert_lora_to_gguf.py and src/llama-adapter.cpp of llama.cpp.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gsqc.adapters.linears import LINEARS
from gsqc.bundle.bundle import Bundle
from gsqc.errors import ExportError, OptionError
from gsqc.export.adapter import Float32, LinearAdapter, TrainedAdapter
from gsqc.export.place import new_file
from gsqc.models.readers.rope_order import pair_order

ARCHITECTURES = {
    "llama": ("llama", True),
    "mistral": ("llama", True),
    "qwen2": ("qwen2", False),
    "qwen3": ("qwen3", False),
}
"""ggml's architecture by Hugging Face's model type, and whether its rotary pairs are neighbours."""


def import_gguf() -> Any:
    """The gguf package. OptionError if it is not installed."""
    try:
        import gguf
    except ModuleNotFoundError:
        raise OptionError(
            "the gguf package is not installed", "pip install 'gsqc[export]'"
        ) from None
    return gguf


def write_gguf_adapter(
    bundle: Bundle, adapter: TrainedAdapter, base_name: str, path: Path, template: str | None
) -> None:
    """Write the file `path`. `template` is a chat template to note in it, or None.

    Raises OptionError, BundleError or ExportError, and then `path` is as it was.
    """
    gguf = import_gguf()
    architecture, neighbours, heads = _architecture(bundle)
    settings: Any = adapter.settings
    pairs = adapter.as_lora()
    if unknown := [x.linear for x in adapter.linears if x.linear not in LINEARS]:
        raise ExportError(
            f"gsqc does not know llama.cpp's name of the linear {unknown[0]}",
            "export with --peft and use llama.cpp's convert_lora_to_gguf.py",
        )
    with new_file(path) as work:
        writer = gguf.GGUFWriter(work, architecture)
        try:
            writer.add_type(gguf.GGUFType.ADAPTER)
            writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
            writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(settings.alpha))
            writer.add_name(f"LoRA of {base_name}, {adapter.steps} steps")
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            writer.add_file_type(gguf.LlamaFileType.ALL_F32)
            if template is not None:
                writer.add_chat_template(template)
            for linear, a, b in pairs:
                name = f"blk.{linear.layer}.{LINEARS[linear.linear].gguf}.weight"
                writer.add_tensor(f"{name}.lora_a", a)
                rows = _rows(linear, b, heads if neighbours else {})
                writer.add_tensor(f"{name}.lora_b", rows)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def _rows(linear: LinearAdapter, b: Float32, heads: dict[str, int]) -> Float32:
    """B with its rows in the file's order."""
    return pair_order(b, heads[linear.linear]) if linear.linear in heads else b


def _architecture(bundle: Bundle) -> tuple[str, bool, dict[str, int]]:
    """ggml's architecture, whether rotary pairs are neighbours, and the heads of q and k."""
    model = bundle.manifest.model
    kind = model.architecture
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ExportError(
            f"gsqc does not know llama.cpp's layout of {kind}",
            f"it knows {known}; export with --peft and use llama.cpp's convert_lora_to_gguf.py",
        )
    return *ARCHITECTURES[kind], {"q": model.heads, "k": model.key_value_heads}
