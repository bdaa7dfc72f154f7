# SPDX-License-Identifier: Apache-2.0
"""The side of ONNX Runtime training in step_time.py: the same LoRA step as torch's, as training
artifacts.

`export_forward` runs where torch and peft are. The rest runs with the Python of --ort-python, which
is in an environment of its own:

    python3.11 -m venv ~/ort
    ~/ort/bin/pip install onnxruntime-training==1.19.2 "onnx==1.16.2" "numpy<2"

Run alone, it writes the artifacts of FOLDER/forward.onnx beside that file:

    python benchmarks/step_time_ort.py FOLDER
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

OPSET = 17
VOCABULARY = 49152


def export_forward(model_folder: Path, folder: Path, seq: int) -> None:
    """The float model of `model_folder` with LoRA as tokens [1, seq] -> logits [seq - 1,
    vocabulary].
    """
    import torch

    class Forward(torch.nn.Module):
        """Each token's logits of the next one."""

        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            # Given mask and positions: what transformers makes them with cannot all be exported.
            given = {
                "attention_mask": torch.full((1, 1, seq, seq), -1e9).triu(1),
                "position_ids": torch.arange(seq)[None],
            }
            logits: torch.Tensor = self.model(input_ids=tokens, use_cache=False, **given).logits
            return logits[0, :-1]

    torch.manual_seed(0)
    folder.mkdir()
    torch.onnx.export(
        Forward(lora_model(model_folder)),
        (torch.zeros((1, seq), dtype=torch.long),),
        str(folder / "forward.onnx"),
        input_names=["tokens"],
        output_names=["logits"],
        opset_version=OPSET,
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.TRAINING,
        dynamo=False,
    )


def lora_model(model_folder: Path) -> Any:
    """The float model with the adapter that gsqc trains."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = AutoModelForCausalLM.from_pretrained(
        model_folder, dtype=torch.float32, attn_implementation="eager"
    )
    return get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules=names, lora_dropout=0.0)
    )


def skip_torch() -> None:
    """Import onnxruntime.training without torch, which only parts that are not used here need."""
    import onnxruntime

    package = types.ModuleType("onnxruntime.training")
    package.__path__ = [str(Path(onnxruntime.__file__).parent / "training")]
    sys.modules["onnxruntime.training"] = package


def write_artifacts(folder: Path) -> None:
    """Write training_model.onnx, optimizer_model.onnx and the checkpoint.

    Only the LoRA matrices are trained.
    """
    import onnx

    skip_torch()
    from onnxruntime.training import artifacts

    model = onnx.load(str(folder / "forward.onnx"))
    names = [tensor.name for tensor in model.graph.initializer]
    trained = [name for name in names if "lora_" in name]
    assert len(trained) == 2 * 7 * 30, f"{len(trained)} LoRA matrices"
    artifacts.generate_artifacts(
        model,
        requires_grad=trained,
        frozen_params=[name for name in names if name not in trained],
        loss=artifacts.LossType.CrossEntropyLoss,
        optimizer=artifacts.OptimType.AdamW,
        artifact_directory=str(folder),
    )


def ort_step(folder: Path, seq: int, threads: int) -> Callable[[], None]:
    """A step of ONNX Runtime training on random tokens."""
    import numpy as np
    import onnxruntime

    skip_torch()
    from onnxruntime.training.api import CheckpointState, Module, Optimizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    state = CheckpointState.load_checkpoint(str(folder / "checkpoint"))
    module = Module(str(folder / "training_model.onnx"), state, session_options=options)
    optimizer = Optimizer(str(folder / "optimizer_model.onnx"), module)
    optimizer.set_learning_rate(1e-3)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (1, seq))
    module.train()

    def step() -> None:
        module(tokens, tokens[0, 1:])
        optimizer.step()
        module.lazy_reset_grad()

    return step


if __name__ == "__main__":
    write_artifacts(Path(sys.argv[1]))
