# SPDX-License-Identifier: Apache-2.0
"""check_program: holds a captured program to what the file itself computes.

An .onnx file is run by onnxruntime if that is installed. Else, and for a .pt2 file, the file's
operators are run by torch, before any of them was recognised as part of a norm or of attention.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.fx

from gsqc.errors import ModelError
from gsqc.models import model_ops
from gsqc.models.capture import custom_ops
from gsqc.models.capture.captured import CapturedModel
from gsqc.models.capture.float_run import run_float
from gsqc.models.capture.programs.tracer import Tracer
from gsqc.models.readers.onnx_file import OnnxFile
from gsqc.models.readers.text_files import first_line

_SEED = 1
_CLOSE, _CLOSE_HALF = 1e-3, 5e-2
"""Largest difference over largest logit. float32 gives 1e-6. The second is for 16-bit floats."""
_EXACT_PRODUCTS = 1
"""The accuracy_level of MatMulNBits at which activations are not quantised."""
_PAST_AXES = 4
Array = npt.NDArray[Any]


def check_program(file: Any, captured: CapturedModel, tracer: Tracer) -> str:
    """Compare the logits of a few random tokens, and give a sentence about it. `tracer` holds the
    program as it was traced. Raises ModelError if they differ.
    """
    tokens = np.random.default_rng(_SEED).integers(0, captured.config.vocabulary, tracer.tokens)
    by, expected = "torch's run of the file", None
    missing = ""
    if isinstance(file, OnnxFile):
        try:
            expected, by = _by_onnxruntime(file, captured, tokens), "onnxruntime's"
        except ModuleNotFoundError:
            missing = ". onnxruntime is not installed: pip install 'gsqc[onnx]' for its check"
    if expected is None:
        expected = _by_torch(tracer, tokens)
    found = run_float(captured, torch.from_numpy(tokens)).detach().numpy()
    if len(expected) == 1:  # some files give the last token's logits only
        found = found[-1:]
    if expected.shape != found.shape:
        raise _differs(file, by, f"{list(expected.shape)} logits, not {list(found.shape)}")
    largest = float(np.abs(expected).max())
    difference = float(np.abs(found - expected).max())
    halves = any(t.dtype in (torch.float16, torch.bfloat16) for t in file.tensors.values())
    if not difference <= (_CLOSE_HALF if halves else _CLOSE) * largest:
        raise _differs(file, by, f"logits {difference:.2g} away, of {largest:.2g} at most")
    return f"checked: the logits are within {difference:.1e} of {by}{missing}"


def _differs(file: Any, by: str, how: str) -> ModelError:
    return ModelError(
        f"{file.path.name} was read wrongly: {by} gives {how}",
        "report it with the file's origin, and compile what it was exported from",
    )


def _by_onnxruntime(file: OnnxFile, captured: CapturedModel, tokens: Array) -> Array:
    """The logits [T or 1, V] of onnxruntime's run of the file."""
    import onnx
    import onnxruntime

    model = onnx.load(file.path, load_external_data=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            kept = [a for a in node.attribute if a.name != "accuracy_level"]
            del node.attribute[:]
            node.attribute.extend(kept)
            node.attribute.append(onnx.helper.make_attribute("accuracy_level", _EXACT_PRODUCTS))
    folder = str(file.path.resolve().parent)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feeds = {value.name: _fed(value, captured, tokens) for value in session.get_inputs()}
        names = [value.name for value in session.get_outputs()]
        logits: Array = session.run(["logits" if "logits" in names else names[0]], feeds)[0]
    except Exception as error:  # onnxruntime raises errors of its own types
        raise ModelError(
            f"onnxruntime cannot run {file.path.name}: {first_line(error)}",
            "export the model again, or compile what it was exported from",
        ) from error
    return np.asarray(logits, np.float32).reshape(-1, logits.shape[-1])


def _fed(value: Any, captured: CapturedModel, tokens: Array) -> Array:
    """What an input of the file has on a first call."""
    kinds = {"tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}
    kind = kinds.get(value.type, np.float16 if "float16" in value.type else np.float32)
    if "past" in value.name and len(value.shape) == _PAST_AXES:
        return np.zeros((1, captured.config.kv_heads, 0, captured.config.head_dim), kind)
    if "mask" in value.name:
        return np.ones((1, len(tokens)), kind)
    if "position" in value.name:
        return np.arange(len(tokens), dtype=kind)[None]
    return np.zeros(1, kind) if kind == np.bool_ else tokens[None].astype(kind)


class _Run(torch.fx.Interpreter):
    """Runs a traced graph. Norms that the file has as one operator are ours."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """A call, with numbers."""
        if target is custom_ops.rms_norm:
            return model_ops.rms_norm(*args[:2], eps=args[2], offset=args[3])
        return super().call_function(target, args, kwargs)


def _by_torch(tracer: Tracer, tokens: Array) -> Array:
    """The logits [T or 1, V] of the traced operators."""
    count = len(tokens)
    given = [torch.from_numpy(tokens)[None], torch.arange(count)[None]]
    constants = [
        tracer.codes[id(t)].values() if id(t) in tracer.codes else t for t in tracer.placed.values()
    ]
    wide = [t.float() if t.is_floating_point() else t for t in constants]
    with torch.no_grad():
        run = _Run(torch.fx.GraphModule(torch.nn.Module(), tracer.graph))
        (logits,) = run.run(*given, *wide)
    return np.asarray(logits.float().numpy()).reshape(-1, logits.shape[-1])
