# SPDX-License-Identifier: Apache-2.0
"""write_onnx_model: writes a merged model as ONNX.

It takes input_ids int64 [batch, tokens] and gives logits float32 [batch, tokens, V]. Each call
computes the whole sequence, because no key/value cache is among the inputs. An ONNX file holds 2 GB
at most, so the weights are in a second file, NAME.onnx.data.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

from gsqc.errors import ExportError, OptionError
from gsqc.export.merge import MergedWeights
from gsqc.export.place import workspace

PROBE = (2, 8)
"""Batch and tokens of the tensor that the model is traced with. Both are free in the file."""


def data_of(path: Path) -> Path:
    """The file with the weights of the graph `path`."""
    return path.with_name(f"{path.name}.data")


def write_onnx_model(weights: MergedWeights, path: Path) -> None:
    """Write `path` and `path`.data, both or neither.

    Raises OptionError if the exporter is not installed, and ExportError.
    """
    import torch

    try:
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise OptionError(
            f"{error.name} is not installed", "pip install 'gsqc[compiler,export]'"
        ) from None
    model = _loaded(torch, weights)
    tokens = torch.ones(PROBE, dtype=torch.int64)
    free = torch.export.Dim
    shapes = ({0: free("batch", min=1, max=4096), 1: free("tokens", min=1, max=model.positions)},)
    with workspace(path) as work:
        try:
            with _quiet(), torch.no_grad():
                torch.onnx.export(
                    model,
                    (tokens,),
                    work / path.name,
                    input_names=["input_ids"],
                    output_names=["logits"],
                    dynamic_shapes=shapes,
                    external_data=True,
                    dynamo=True,
                )
        except OSError:
            raise
        except Exception as error:  # torch and its exporter raise errors of many types
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ExportError(
                f"torch cannot write this model as ONNX: {reason}", "export it with --merged"
            ) from error
        # The graph comes last. Whoever finds it finds its weights too.
        for name in (data_of(path).name, path.name):
            (work / name).replace(path.parent / name)


@contextlib.contextmanager
def _quiet() -> Any:
    """Hide the exporter's progress on stdout and its warnings about torch's own code."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _loaded(torch: Any, weights: MergedWeights) -> Any:
    """The merged model as a torch module from tokens to logits."""
    module: Any = weights.loaded.module
    state = {name: torch.from_numpy(weights.float32(name).copy()) for name in weights.shapes()}
    module.load_state_dict(state, strict=False, assign=True)
    module.tie_weights()

    class Logits(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = module
            self.positions = int(module.config.max_position_embeddings)

        def forward(self, tokens: Any) -> Any:
            return self.model(input_ids=tokens, use_cache=False).logits

    return Logits().eval()
