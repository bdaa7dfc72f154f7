# SPDX-License-Identifier: Apache-2.0
"""GsqcLM: a bundle, or what a run made of it, as a model of lm-evaluation-harness 0.4.13.

    import lm_eval
    from gsqc.harness.model import GsqcLM

    model = GsqcLM("smol.gsqc", run="runs/notes")
    lm_eval.simple_evaluate(model=model, tasks=["piqa"], limit=100)

Importing this file also gives the harness the name `gsqc` for `model=`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from tqdm import tqdm

from gsqc.bundle.bundle import Bundle
from gsqc.data.encode import chat_renderer
from gsqc.data.examples import Chat
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError
from gsqc.harness.scoring import Score, Scorer
from gsqc.runtime.session import Session

MOST_NEW_TOKENS = 256
"""Of an answer to a task that does not say. It is the harness's own number for Hugging Face."""
TokenRequest = tuple[tuple[str, str] | None, list[int], list[int]]
"""Texts of a context and its continuation, and their tokens."""


@register_model("gsqc")
class GsqcLM(TemplateLM):  # type: ignore[misc]  # lm_eval has no types
    """A session as the harness calls it.

    bundle         a path, a bundle, or a Session that is open
    run, best      the run whose adapter, or best one, is used. Without it, the initial one
    watch          gets the number of requests done and their total, in place of a bar on stderr
    batch_size     and the other names that the harness gives to every model have no effect

    Texts become tokens as in training, with BOS if the model's tokenizer puts it. `scorer.cuts`
    says what did not fit into a sequence. Raises what Session raises.
    """

    def __init__(
        self,
        bundle: Session | Bundle | str | Path,
        run: str | Path | None = None,
        best: bool = False,
        threads: int | None = None,
        target: str | None = None,
        watch: Callable[[int, int], object] | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(bundle, Session):
            bundle = Session(bundle, run, target=target, threads=threads, best=best)
        self.session = bundle
        self.text = Tokenizer(self.session.bundle)
        self.scorer, self._watch = Scorer(self.session), watch

    # --------------------------------------------------------------------------------------------
    # text

    @property
    def eot_token_id(self) -> int | None:
        """The token that ends a text."""
        return self.text.eos

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without a context: BOS, or else the end of text.

        Raises DataError if the model has neither.
        """
        before = self.text.encode_prompt("")
        if not before:
            raise DataError(
                "the model has no token that begins or ends a text",
                "leave out tasks without a context",
            )
        return before[0]

    @property
    def max_length(self) -> int:
        """Tokens of the bundle's sequence."""
        return self.session.sequence_length

    @property
    def tokenizer_name(self) -> str:
        """The harness keeps requests in a cache under this name."""
        return f"gsqc-{self.text.identity[:16]}"

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """The tokens of a text, behind BOS unless the text or the caller says no."""
        if add_special_tokens is False or not string:
            return self.text.encode(string)
        return self.text.encode_prompt(string, end="")

    def tok_decode(self, tokens: list[int], skip_special_tokens: bool = True) -> str:
        """The text of tokens."""
        return self.text.decode(tokens, special=not skip_special_tokens)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Messages as the model's own template writes them. Raises DataError."""
        with chat_renderer(self.text) as renderer:
            try:
                if add_generation_prompt:
                    return renderer.prompt(Chat(chat_history))
                return renderer.render(Chat(chat_history), mask_prompt=False).text
            except ValueError as error:
                raise DataError(str(error), "evaluate without the chat template") from None

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes beside its results."""
        manifest, store = self.session.bundle.manifest, self.session.store
        return {
            "bundle": str(self.session.bundle.path),
            "model_name": manifest.model.name,
            "bits": manifest.bits,
            "max_length": self.max_length,
            "run": None if store is None else str(store.path),
            "step": self.session.step_count,
        }

    # --------------------------------------------------------------------------------------------
    # the three requests

    @contextmanager
    def _progress(self, total: int, is_quiet: bool = False) -> Iterator[Callable[[int], object]]:
        """What is called with the number of requests that are done since the last call."""
        is_quiet = is_quiet or self._watch is not None
        with tqdm(total=total, disable=is_quiet, desc="gsqc", unit=" requests") as bar:
            done = 0

            def update(count: int) -> None:
                nonlocal done
                done += count
                bar.update(count)
                if self._watch is not None:
                    self._watch(done, total)

            yield update

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Score]:
        """The score of each continuation after its context: log-likelihood in nats, is_greedy."""
        is_quiet = disable_tqdm or self._watch is not None
        scores: list[Score] = super().loglikelihood(requests, disable_tqdm=is_quiet)
        return scores

    def _loglikelihood_tokens(
        self, requests: list[TokenRequest], disable_tqdm: bool = False, **_: Any
    ) -> list[Score]:
        with self._progress(len(requests), disable_tqdm) as update:
            scores = self.scorer.score([(c, n) for _, c, n in requests], update)
        for request, score in zip(requests, scores, strict=True):
            if request[0] is not None:
                self.cache_hook.add_partial("loglikelihood", request[0], score)
        return scores

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of each text in nats, in windows as the harness cuts them.

        Its last window reads as much of the text before it as fits, unlike that of
        `gsqc eval --perplexity`.
        """
        found = []
        with self._progress(len(requests), disable_tqdm) as update:
            for (string,) in (request.args for request in requests):
                tokens, length = self.tok_encode(string, add_special_tokens=False), self.max_length
                windows = utils.get_rolling_token_windows(tokens, self.prefix_token_id, length, 1)
                pairs = [utils.make_disjoint_window(window) for window in windows]
                found.append(sum(score for score, _ in self.scorer.score(pairs)))
                self.cache_hook.add_partial("loglikelihood_rolling", (string,), found[-1])
                update(1)
        return found

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The answer to each request: `gsqc generate`'s, up to a stop text or an end of text.

        It takes the likeliest tokens, or draws with the task's temperature and the request's number
        as seed. There is no top-k and no top-p.
        """
        found = []
        with self._progress(len(requests), disable_tqdm) as update:
            for seed, (context, given) in enumerate(request.args for request in requests):
                options = normalize_gen_kwargs(dict(given), MOST_NEW_TOKENS)
                found.append(self._answer(context, options, seed))
                self.cache_hook.add_partial("generate_until", (context, given), found[-1])
                update(1)
        return found

    def _answer(self, context: str, options: dict[str, Any], seed: int) -> str:
        stops = handle_stop_sequences(options["until"], eos=None)
        temperature = str(options.get("temperature", 0)) if options["do_sample"] else "0"
        most = int(options["max_gen_toks"])
        prompt = self.tok_encode(context) or [self.prefix_token_id]
        # Prompt and answer share a sequence. Hugging Face's class refuses an answer that leaves no
        # room. Here the prompt keeps half of it, and generation drops the oldest half as it goes.
        room = max(self.max_length - most, self.max_length // 2, 1)
        if len(prompt) > room:
            self.scorer.cuts.texts += 1
            self.scorer.cuts.tokens += len(prompt) - room
        tokens: list[int] = []
        for token in self.session.generate(prompt[-room:], most, Fraction(temperature), seed):
            tokens.append(token)
            if any(stop and stop in self.tok_decode(tokens) for stop in stops):
                break
        return str(postprocess_generated_text(self.tok_decode(tokens), stops, None))
