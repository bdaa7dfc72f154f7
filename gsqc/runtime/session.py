# SPDX-License-Identifier: Apache-2.0
"""Session: loads a bundle, steps it, evaluates it, generates with it, saves and resumes.

It needs neither torch nor the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import INITIAL_STATE
from gsqc.bundle.machine import thread_count
from gsqc.data import WEIGHT_ONE, TokenSequence
from gsqc.errors import OptionError
from gsqc.runtime.classes import require_text_maker, weight_of_right
from gsqc.runtime.digest import state_digest
from gsqc.runtime.generation import Drawing, generate_tokens, require_drawing, token_ids
from gsqc.runtime.load_kernels import load_kernels, open_executor
from gsqc.runtime.requirements import (
    image_space,
    require_batch,
    require_clipping,
    require_rates,
    require_sequences,
    require_session,
)
from gsqc.runtime.results import EvaluationResult, StepResult, evaluation_result
from gsqc.runtime.step_methods import Batch, run_sequence, take_step
from gsqc.runtime.store import BEST, STATE, RunStore
from gsqc.runtime.token_reader import TokenReader
from gsqc.runtime.token_scores import Int32, TokenScores, copy_head_input
from gsqc.targets.registry import NATIVE, best_target, find_target
from gsqc.values import as_path, require_truth

Array = npt.NDArray[Any]


class Session:
    """A training session over a bundle.

    A path is opened as a bundle, and its files are checked against their hashes. The session takes
    the state that the run directory `run` holds, or else the bundle's initial state. `best` takes
    the state of the run's lowest held-out loss: it can be used, but not trained on. Then the
    frozen operands are prepared. Raises BundleError, RunError, OptionError, TargetError.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        run: str | Path | None = None,
        *,
        target: str | None = None,
        threads: int | None = None,
        best: bool = False,
    ) -> None:
        self.threads, self.is_best = thread_count(threads), require_truth("best", best)
        place = None if run is None else as_path("run", run)
        named = None if target in (None, NATIVE) else find_target(str(target))
        if self.is_best and place is None:
            raise OptionError("only a run has a best state", "name the run (--run DIR)")
        if not isinstance(bundle, Bundle):
            bundle = Bundle.open(as_path("bundle", bundle))
        self.bundle, manifest = bundle, bundle.manifest
        self.sequence_length, self.batch = manifest.sequence_length, manifest.batch
        self.plan, self.optimizer = self.bundle.plan, manifest.trained_by()
        self.labels: tuple[str, ...] = manifest.model.labels or ()
        require_session(self.plan, self.sequence_length, self.optimizer, len(self.labels))
        chosen = named or best_target(self.bundle)
        self.target = chosen.name
        kernels = load_kernels(self.bundle, self.plan, chosen)
        kernels.set_threads(self.threads)
        self.store = RunStore(place, self.bundle) if place is not None else None
        self.executor, self.step_count = open_executor(kernels, bundle, chosen), 0
        self._load_state()
        self.executor.finish("prepare")

    # ----------------------------------------------------------------------------
    # state

    def _load_state(self) -> None:
        name = BEST if self.is_best else STATE
        saved = None
        if self.store is not None:
            saved = self.store.load_state(self.plan.buffers["state"], name)
        if saved is not None:
            tensors, self.step_count = saved
        else:
            tensors = self.bundle.map_tensors(INITIAL_STATE, self.plan.buffers["state"])
        for name, tensor in self.state().items():
            np.copyto(tensor, tensors[name], casting="no")
            tensors.release_pages()  # or the file would stay in memory beside the state

    def state(self) -> dict[str, Array]:
        """The trained tensors by name: the adapter's matrices and the optimizer's state.

        They are flat views of the session's memory, not copies.
        """
        return {name: self.executor.tensors[name] for name in sorted(self.plan.buffers["state"])}

    def digest(self) -> str:
        """The sha256 over the whole training state, as `state_digest` defines it."""
        return state_digest(self.state(), self.step_count, self.threads)

    def save(self) -> None:
        """Write the state to the run directory. If that fails, the old state is still there."""
        if self.store is None:
            raise OptionError(
                "this session has no run directory", "open it with run=DIR (--run DIR)"
            )
        if self.is_best:
            raise OptionError(
                "a run cannot go on from its best state", "open the run without best=True"
            )
        self.store.save_state(self.state(), self.step_count)

    # ----------------------------------------------------------------------------
    # training and evaluation

    def _checked(self, sequences: Sequence[TokenSequence]) -> Sequence[TokenSequence]:
        model, length = self.bundle.manifest.model, self.sequence_length
        classes, space = len(model.labels or ()), image_space(self.bundle.plan)
        return require_sequences(sequences, length, model.vocabulary, classes, space)

    def step(
        self,
        sequences: Sequence[TokenSequence],
        learning_rate: Fraction | float | str,
        decay: Fraction | float | str = 0,
        clip: Fraction | float | str | None = None,
    ) -> StepResult:
        """Take one optimizer step on 1 to 64 sequences, by the mean gradient of their tokens.

        Sequences run one after another, and the sum of their gradients is exact. So any grouping
        into micro-batches gives the same bits. `clip` is the largest norm of the mean gradient,
        which an optimizer without gradients does not take.

        Raises DataError and OptionError, and then the state is as it was. BundleChangedError if the
        bundle was changed while the step ran: the state is no longer certain then.
        """
        sequences = self._checked(sequences)
        weight = require_batch(sequences)
        rates = require_rates(learning_rate, decay, clip)
        require_clipping(self.optimizer, clip)
        inputs = self.optimizer.step_inputs(*rates[:2], self.step_count + 1, weight, rates[2])
        batch = Batch(self.step_count + 1, sequences, weight, inputs)
        outcome = take_step(self.executor, self.plan, self.optimizer, batch)
        self.bundle.require_unchanged()
        self.step_count += 1
        found = outcome.loss, round(weight / WEIGHT_ONE), self.digest(), outcome.norm
        return StepResult(self.step_count, *found, outcome.differences, weight)

    def evaluate(
        self, sequences: Sequence[TokenSequence], watch: Callable[[int], object] = lambda done: None
    ) -> EvaluationResult:
        """The mean loss per weighted token, and a classifier's accuracy. The state does not change.

        `watch` is called after each sequence with the number of sequences done.
        """
        sequences, totals, right = self._checked(sequences), [], 0
        for sequence in sequences:
            totals.append(run_sequence(self.executor, "evaluate", sequence))
            right += weight_of_right(self.executor.tensors, sequence, len(self.labels))
            watch(len(totals))
        self.bundle.require_unchanged()
        loss, weight = (sum(total[k] for total in totals) for k in (0, 1))
        return evaluation_result(loss, weight, right if self.labels else None)

    def token_losses(self, sequence: TokenSequence) -> Int32:
        """The loss of each label in nats, Q16, int32 [T], whether it has a weight or not.

        Their sum by the weights is the loss of `evaluate`, `==`. Raises DataError.
        """
        self._checked([sequence])
        run_sequence(self.executor, "evaluate", sequence)
        self.bundle.require_unchanged()
        return np.array(self.executor.tensors["loss"], np.int32)

    def score(self, sequence: TokenSequence) -> TokenScores:
        """The losses of a sequence's tokens, and what else the model says of them.

        That is: logits, the likeliest token, and losses of other labels. The state does not change.
        Raises DataError, BundleError.
        """
        require_text_maker(self.bundle, "the score of a token")
        losses, layers = self.token_losses(sequence), self.bundle.manifest.model.layers
        rows = copy_head_input(self.executor, layers)
        return TokenScores(sequence, losses, self.executor, rows, layers)

    def generate(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        temperature: Fraction | float | str = 0,
        seed: int = 0,
    ) -> Iterator[int]:
        """The tokens after `prompt`: the likeliest ones at temperature 0, else sampled ones.

        It ends after `max_tokens` tokens, or before a token that ends a text or a turn. Keys and
        values of earlier tokens are kept. Of a prompt longer than a sequence, the end is read. When
        the text outgrows a sequence, its first half is dropped (`what_is_dropped`). Do not step in
        between. BundleChangedError comes after the last token if the bundle was changed meanwhile.
        Raises OptionError and DataError at once.
        """
        require_text_maker(self.bundle, "generation")
        drawing = require_drawing(max_tokens, temperature, seed)
        tokens = token_ids(prompt, self.bundle.manifest.model.vocabulary)
        return self._generate(tokens, drawing)

    def _generate(self, tokens: list[int], drawing: Drawing) -> Iterator[int]:
        reader = TokenReader(self.executor, self.plan)
        yield from generate_tokens(reader, self.bundle.manifest, tokens, drawing)
        self.bundle.require_unchanged()
