# SPDX-License-Identifier: Apache-2.0
"""python -m tests.campaign [--long] [--seed N] [--report FILE] [PART …]

PART is mutations, runner, fuzz, kills or system. All of them run if none is named. `--only NAME`
takes the kinds and the commands whose name begins so. With `--case N` one case runs in this
process.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # forked processes have no threads
os.environ["GSQC_TRACEBACK"] = "1"

from tests.campaign import faults, kills, mutations, runner_mutations, system
from tests.campaign.corpus import build
from tests.campaign.model_kinds import all_kinds
from tests.campaign.place import Place
from tests.campaign.report import Report
from tests.campaign.server import COMPILES, Server
from tests.campaign.writers import writers


@dataclass(frozen=True)
class Amount:
    """How many cases: of a kind of weight 1, in C, of each command, and seconds of libFuzzer."""

    mutations: int
    runner: int
    kills: int
    fuzz: int


LONG, SHORT = Amount(2200, 900, 150, 300), Amount(5, 3, 2, 2)


@dataclass(frozen=True)
class Campaign:
    """What all parts share."""

    corpus: Path
    folder: Path
    amount: Amount
    seed: int
    only: str

    def _step(self) -> Path:
        (step,) = self.corpus.glob("b.gsqc/code/*/gsqc-step")
        return step.resolve()

    def mutations(self) -> Iterator[Report]:
        """Changed files in Python."""
        import datasets  # noqa: F401  # forked processes have it then
        import transformers  # noqa: F401

        place = Place(self.corpus, self.folder / "mutations")
        for kind in all_kinds(self.corpus):
            if kind.name.startswith(self.only):
                count = len(kind.readers) + len(kind.commands)
                count += max(2, round(kind.weight * self.amount.mutations))
                yield mutations.run_kind(kind, place, self.seed, count)

    def runner(self) -> Iterator[Report]:
        """Changed files in gsqc-step."""
        place = Place(self.corpus, self.folder / "runner")
        program = self._step()
        if self.amount is LONG:  # building takes a minute
            program = runner_mutations.build_sanitised(self.folder)
        for kind in runner_mutations.runner_kinds():
            if kind.name.startswith(self.only):
                count = 1 + max(2, round(kind.weight * self.amount.runner))
                yield runner_mutations.run_kind(kind, place, program, self.seed, count)

    def fuzz(self) -> Iterator[Report]:
        """The libFuzzer targets."""
        yield runner_mutations.fuzz(self.folder, self.amount.fuzz)

    def kills(self) -> Iterator[Report]:
        """Kills and failing calls."""
        library = faults.build_library(self.folder)
        step, rng = str(self._step()), random.Random(self.seed)
        with Server(library, () if self.amount is SHORT else COMPILES) as server:
            for writer in writers(step):
                if writer.name.startswith(self.only) and (
                    self.amount is not SHORT or not writer.slow
                ):
                    scene = kills.Scene(writer, self.corpus, self.folder / "kills", server, library)
                    yield kills.run_writer(scene, self.amount.kills, rng)

    def system(self) -> Iterator[Report]:
        """Odd files, prints that fail, a second process, signals, and bounds of file sizes."""
        library = faults.build_library(self.folder)
        step, rng, folder = str(self._step()), random.Random(self.seed), self.folder / "system"
        folder.mkdir()
        with Server(library) as server:
            place = system.Place(self.corpus, folder, server, library)
            yield from system.odd_files(place, step, 4 * self.amount.kills, rng)
            yield system.prints(place, self.amount.kills, rng)
            yield system.second_process(place, step)
            for writer in system.trainers(writers(step)):
                scene = kills.Scene(writer, self.corpus, folder / "runs", server, library)
                yield system.disturbed_training(scene, self.amount.kills // 3 or 1, rng)


PARTS: dict[str, Callable[[Campaign], Iterator[Report]]] = {
    "mutations": Campaign.mutations,
    "runner": Campaign.runner,
    "fuzz": Campaign.fuzz,
    "kills": Campaign.kills,
    "system": Campaign.system,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.campaign", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--long", action="store_true", help="hours in place of minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="the Markdown file to write")
    parser.add_argument("--corpus", type=Path, help="keep the valid files here, for the next time")
    parser.add_argument("--only", default="", help="kinds and commands whose name begins so")
    parser.add_argument("--count", type=int, help="cases of a kind, kills of a command")
    parser.add_argument("--case", type=int, help="one case of a kind, with its traceback")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}: {', '.join(PARTS)}")
    return chosen


def _reproduce(campaign: Campaign, case: int) -> int:
    (kind,) = (k for k in all_kinds(campaign.corpus) if k.name == campaign.only)
    place = Place(campaign.corpus, campaign.folder / "case")
    return mutations.reproduce(kind, place, campaign.seed, case)


def main() -> int:
    """Run the chosen parts. The exit code is 1 if anything failed."""
    chosen = _options()
    total, start = Report(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gsqc-campaign-") as scratch:
        folder = Path(scratch)
        place = (chosen.corpus or folder / "corpus").absolute()
        corpus = build(place, whole=chosen.long)
        amount = LONG if chosen.long else SHORT
        if chosen.count is not None:
            amount = Amount(chosen.count, chosen.count, chosen.count, amount.fuzz)
        campaign = Campaign(corpus, folder, amount, chosen.seed, chosen.only)
        if chosen.case is not None:
            return _reproduce(campaign, chosen.case)
        for part in chosen.parts or PARTS:
            for report in PARTS[part](campaign):
                print("\n".join(report.table().splitlines()[2:-1]), flush=True)
                for cause in report.causes():
                    print(f"  {cause}", flush=True)
                total.merge(report)
    minutes = (time.monotonic() - start) / 60
    head = f"{total.cases:,} cases in {minutes:.0f} minutes, seed {chosen.seed}."
    print(f"\n{head}\n\n{total.table()}")
    if chosen.report is not None:
        total.write(chosen.report, head)
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
