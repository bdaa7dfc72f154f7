# SPDX-License-Identifier: Apache-2.0
"""The harness's requests are those of direct calls of a session, `==`, and of its own class for
Hugging Face models on the de-quantised weights, nearly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.data.sequences import Piece
from gsqc.data.tokenizer import Tokenizer
from gsqc.runtime.session import Session
from tests.end_to_end.conftest import from_directory
from tests.end_to_end.trained import Trained, float_model
from tests.harness.tiny_tasks import ANSWERS, CHOICES, LETTERS, TEXTS, tasks_folder
from tests.runtime.small_bundle import END

lm_eval = pytest.importorskip("lm_eval", reason="needs pip install 'gsqc[lm-eval]'")

__all__ = ["from_directory", "tasks_folder"]

LENGTH = 24
TOLERANCE = 0.02
"""Of a log-likelihood. test_export bounds the rounding of a token's logits by 5 %. A continuation
here has 2 to 113 tokens, whose errors partly cancel. The largest difference of this test is 0.6 %.
"""


@pytest.fixture(scope="module")
def manager(tasks_folder: Path) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(tasks_folder), include_defaults=False)


def run(model: Any, manager: Any, *tasks: str) -> Any:
    return lm_eval.simple_evaluate(
        model=model, tasks=list(tasks), task_manager=manager, bootstrap_iters=0
    )


def values_of(results: Any, task: str) -> list[list[Any]]:
    """What the model said of each item's requests."""
    samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    return [[response[0] for response in sample["resps"]] for sample in samples]


@pytest.fixture(scope="module")
def ours(from_directory: Trained, manager: Any) -> Any:
    """All tasks on a run of the tiny bundle, by the harness's own function."""
    from gsqc.harness.model import GsqcLM

    model = GsqcLM(from_directory.bundle, run=from_directory.run)
    tasks = ("tiny_choices", "tiny_letters", "tiny_texts", "tiny_answers")
    return model, run(model, manager, *tasks)


@pytest.fixture(scope="module")
def theirs(from_directory: Trained, manager: Any) -> Any:
    """Choices and texts on the de-quantised weights with the adapter, in float32."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    merged = from_directory.merged()
    tokenizer = AutoTokenizer.from_pretrained(merged, eos_token="<end>")
    model = HFLM(float_model(merged), tokenizer=tokenizer, max_length=LENGTH, batch_size=1)
    return run(model, manager, "tiny_choices", "tiny_letters", "tiny_texts")


def log_likelihood(session: Session, tokens: list[int], count: int) -> float:
    """That of the last `count` tokens after those before them, at most one sequence in all."""
    tokens = tokens[-(LENGTH + 1) :]
    count = min(count, len(tokens) - 1)
    counted = np.arange(len(tokens)) >= len(tokens) - count
    losses = session.token_losses(Piece(np.array(tokens, np.int32), counted).pad(LENGTH))
    return -int(losses[len(tokens) - 1 - count : len(tokens) - 1].sum()) / 2**16


@pytest.mark.parametrize(("task", "items"), [("tiny_choices", CHOICES), ("tiny_letters", LETTERS)])
def test_choices_are_direct_calls_of_the_session(
    ours: Any, from_directory: Trained, task: str, items: list[dict[str, Any]]
) -> None:
    session = Session(from_directory.bundle, from_directory.run)
    encode = Tokenizer(session.bundle).encode
    right = []
    for item, found in zip(items, values_of(ours[1], task), strict=True):
        expected = [
            log_likelihood(session, encode(f"{item['q']}: {c}"), len(encode(f" {c}")))
            for c in item["c"]
        ]
        assert [value for value, _ in found] == expected
        right.append(int(np.argmax(expected)) == item["gold"])
    assert ours[1]["results"][task]["acc,none"] == np.mean(right)


def test_texts_are_direct_calls_of_the_session(ours: Any, from_directory: Trained) -> None:
    session = Session(from_directory.bundle, from_directory.run)
    encode, totals = Tokenizer(session.bundle).encode, []
    for text in TEXTS:
        tokens = [END, *encode(text)]
        whole = (len(tokens) - 1) // LENGTH * LENGTH
        values = [
            log_likelihood(session, tokens[at : at + LENGTH + 1], LENGTH)
            for at in range(0, whole, LENGTH)
        ]
        if rest := len(tokens) - 1 - whole:  # the last window has the context that fits
            values.append(log_likelihood(session, tokens, rest))
        totals.append(sum(values))
    assert [found for (found,) in values_of(ours[1], "tiny_texts")] == totals
    bits = -sum(totals) / sum(len(text.encode()) for text in TEXTS) / np.log(2)
    assert ours[1]["results"]["tiny_texts"]["bits_per_byte,none"] == pytest.approx(bits, rel=1e-12)


def test_answers_are_what_the_session_generates(ours: Any, from_directory: Trained) -> None:
    session = Session(from_directory.bundle, from_directory.run)
    tokenizer = Tokenizer(session.bundle)
    for item, (found,) in zip(ANSWERS, values_of(ours[1], "tiny_answers"), strict=True):
        prompt = tokenizer.encode(item["q"])[-(LENGTH - 6) :]
        text = tokenizer.decode(list(session.generate(prompt, 6)))
        assert found == text.split("\n")[0].split("5")[0]


def test_what_was_cut_is_counted(ours: Any) -> None:
    encode = ours[0].tok_encode
    texts = [f"{i['q']}: {c}" for i in (*CHOICES, *LETTERS) for c in i["c"]]
    lost = [len(encode(text)) - (LENGTH + 1) for text in texts]
    lost += [len(encode(i["q"])) - (LENGTH - 6) for i in ANSWERS]
    cuts = ours[0].scorer.cuts
    assert (cuts.texts, cuts.tokens) == (sum(n > 0 for n in lost), sum(n for n in lost if n > 0))
    assert cuts.continuations == 0
    # The letters share an evaluation, and no other requests do.
    requests = sum(len(values) for values in values_of(ours[1], "tiny_choices"))
    windows = [-(-len(encode(text)) // LENGTH) for text in TEXTS]
    assert ours[0].scorer.passes == requests + len(LETTERS) + sum(windows)


@pytest.mark.parametrize("task", ["tiny_choices", "tiny_letters", "tiny_texts"])
def test_a_float_model_says_nearly_the_same(ours: Any, theirs: Any, task: str) -> None:
    for own, other in zip(values_of(ours[1], task), values_of(theirs, task), strict=True):
        for mine, expected in zip(own, other, strict=True):
            value = mine[0] if isinstance(mine, tuple) else mine
            reference = expected[0] if isinstance(expected, tuple) else expected
            assert abs(value / reference - 1) < TOLERANCE


def test_the_name_gsqc_is_known_to_the_harness(from_directory: Trained, manager: Any) -> None:
    import gsqc.harness.model  # noqa: F401

    arguments = f"bundle={from_directory.bundle},run={from_directory.run},threads=1"
    found = lm_eval.simple_evaluate(
        model="gsqc",
        model_args=arguments,
        tasks=["tiny_letters"],
        task_manager=manager,
        bootstrap_iters=0,
    )
    assert found["config"]["step"] == 12 and found["config"]["max_length"] == LENGTH


def test_a_drawn_answer_depends_on_the_number_of_its_request(from_directory: Trained) -> None:
    from types import SimpleNamespace

    from gsqc.harness.model import GsqcLM

    told: list[Any] = []
    model = GsqcLM(from_directory.bundle, watch=lambda done, total: told.append((done, total)))
    options = {"until": [], "max_gen_toks": 5, "do_sample": True, "temperature": 1.5}
    requests = [SimpleNamespace(args=("ab", options))] * 2
    found = model.generate_until(requests)
    assert found[0] != found[1] and found == model.generate_until(requests)
    session, tokenizer = model.session, model.text
    drawn = [list(session.generate(tokenizer.encode("ab"), 5, "1.5", seed)) for seed in (0, 1)]
    assert found == [tokenizer.decode(tokens) for tokens in drawn]
    assert told[:2] == [(1, 2), (2, 2)]


def test_a_context_that_is_empty_has_the_end_of_text_before_it(from_directory: Trained) -> None:
    from types import SimpleNamespace

    from gsqc.harness.model import GsqcLM

    model = GsqcLM(from_directory.bundle)
    ((value, _),) = model.loglikelihood([SimpleNamespace(args=("", "ab"))], disable_tqdm=True)
    tokens = [END, *model.text.encode("ab")]
    assert value == log_likelihood(model.session, tokens, 2)
