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

from gsqc.bundle.bundle import Bundle
from gsqc.errors import ExportError, OptionError
from gsqc.export.adapter import TrainedAdapter
from gsqc.export.fixed_point import Float32
from gsqc.export.one_number import require_one
from gsqc.export.place import new_file
from gsqc.models.readers.gguf_architectures import ARCHITECTURES, Architecture, file_architecture
from gsqc.models.readers.gguf_stored import Stored


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
    name = _architecture(bundle)
    heads = bundle.manifest.model.heads, bundle.manifest.model.key_value_heads
    tensors: dict[str, Float32] = {}
    pairs = adapter.as_lora()
    alpha = require_one((form.alpha for _, form in pairs), "alphas", "a GGUF file")
    for linear, form in pairs:
        tensor, stored = place_in_file(
            ARCHITECTURES[name], linear.module, linear.layer, form.b.shape, heads
        )
        tensors |= {f"{tensor}.lora_a": form.a, f"{tensor}.lora_b": stored.rows_to_file(form.b)}
    with new_file(path) as work:
        writer = gguf.GGUFWriter(work, name)
        try:
            writer.add_type(gguf.GGUFType.ADAPTER)
            writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
            writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(alpha))
            writer.add_name(f"LoRA of {base_name}, {adapter.steps} steps")
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            writer.add_file_type(gguf.LlamaFileType.ALL_F32)
            if template is not None:
                writer.add_chat_template(template)
            for tensor, data in tensors.items():
                writer.add_tensor(tensor, data)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def place_in_file(
    architecture: Architecture,
    module: str,
    layer: int,
    b_shape: tuple[int, ...],
    heads: tuple[int, int],
) -> tuple[str, Stored]:
    """The name of a linear's weight in a file, and the order of B's rows there. Raises ExportError.

    b_shape  of B [rows, rank]
    heads    the model's heads of q, and of k and v
    """
    name = module.removeprefix(f"{architecture.blocks}.{layer}.")
    ggml = {ours: theirs for theirs, ours in architecture.layer.items()}.get(name)
    if ggml is None:
        raise ExportError(f"llama.cpp has no tensor for {module}", "export with --peft or --merged")
    return f"blk.{layer}.{ggml}.weight", architecture.stored(f"{name}.weight", b_shape, *heads)


def _architecture(bundle: Bundle) -> str:
    """ggml's name of the architecture. ExportError if its layout is not known."""
    kind = bundle.manifest.model.architecture
    name = file_architecture(kind)
    if name is None:
        known = ", ".join(ARCHITECTURES)
        raise ExportError(
            f"gsqc does not know llama.cpp's layout of {kind}",
            f"it knows {known}; export with --peft and use llama.cpp's convert_lora_to_gguf.py",
        )
    return name
