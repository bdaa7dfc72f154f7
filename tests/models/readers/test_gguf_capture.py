# SPDX-License-Identifier: Apache-2.0
"""Models of GGUF files are captured: the graph has the logits of the model they were made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

from gguf import GGMLQuantizationType as Kind

from gsqc.models.capture import FloatRun, capture_model
from tests.models.readers.convert import logits_of, tiny_model, write_model
from tests.models.readers.test_gguf_architectures import CASES, TOKENS


@pytest.mark.parametrize("case", ["gemma3", "gptneox", "phi2"])
def test_the_graph_has_the_logits_of_the_model(tmp_path: Path, case: str) -> None:
    """The bound is that of float32 sums in another order."""
    made = CASES[case]
    model = tiny_model(made.model_type, **made.settings)
    path = write_model(model, made.architecture, tmp_path / "a.gguf", made.values)
    captured = capture_model(path, len(TOKENS))
    expected = logits_of(model, TOKENS)
    got = FloatRun(captured).logits(TOKENS).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_codes_of_gpt2s_linears_are_kept(tmp_path: Path) -> None:
    made = CASES["gpt2"]
    model = tiny_model("gpt2", **made.settings)
    path = write_model(model, "gpt2", tmp_path / "a.gguf", made.values, lambda *_: Kind.Q8_0)
    weights = capture_model(path, len(TOKENS)).weights
    linears = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    kinds = {weights.code_kind(f"transformer.h.0.{name}.weight") for name in linears}
    assert kinds == {"q8_0"}
