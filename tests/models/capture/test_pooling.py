# SPDX-License-Identifier: Apache-2.0
"""The one vector of a text that a classifier of a user's own reads: a mean in several forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from gsqc.errors import UnsupportedOperatorError
from gsqc.models import load_classifier, model_ops
from gsqc.models.capture import capture_loaded, run_float
from tests.encoders import CLASSES, HIDDEN, VOCABULARY

TOKENS = 12


def _masked(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.unsqueeze(-1).expand(x.shape).float()
    return (x * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def _plain(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return x.mean(dim=1)


def _halved(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return x.sum(1) / (2 * mask.sum(1, keepdim=True))


def _over_columns(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return x[:, 0] * x.mean(dim=2)[:, :1]


class PoolingForSequenceClassification(BertForSequenceClassification):
    """A BERT whose head reads what `pool` gives."""

    pool: Any = None

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        **_: Any,
    ) -> Any:
        given = (input_ids, attention_mask, token_type_ids, position_ids)
        x = self.bert(*given).last_hidden_state
        return SequenceClassifierOutput(logits=self.classifier(type(self).pool(x, attention_mask)))


def _model(pool: Any) -> Any:
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 96}
    sizes |= {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "max_position_embeddings": 64}
    config = BertConfig(**sizes)
    config.num_labels = CLASSES
    torch.manual_seed(0)
    kind = type("OwnForSequenceClassification", (PoolingForSequenceClassification,), {})
    kind.pool = staticmethod(pool)
    return kind(config).eval()


@pytest.mark.parametrize("pool", [_masked, _plain])
def test_a_mean_over_tokens(pool: Any) -> None:
    """Measured: 1e-7."""
    model = _model(pool)
    captured = capture_loaded(load_classifier(model), TOKENS)
    assert [n.target for n in captured.graph.nodes].count(model_ops.record_mean) == 1
    tokens = torch.randint(4, VOCABULARY, (TOKENS,), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = model(tokens[None], torch.ones(1, TOKENS, dtype=torch.long)).logits[0]
    torch.testing.assert_close(run_float(captured, tokens)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("pool", "told"),
    [
        (_halved, "by another number than their count"),
        (_over_columns, "aten.mean.dim over axes [2]"),
    ],
)
def test_other_sums_are_refused(pool: Any, told: str) -> None:
    with pytest.raises(UnsupportedOperatorError) as error:
        capture_loaded(load_classifier(_model(pool)), TOKENS)
    assert f"{told} at test_pooling.py:" in str(error.value)
