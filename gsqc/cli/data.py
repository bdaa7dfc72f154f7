# SPDX-License-Identifier: Apache-2.0
"""gsqc data: shows what a data set becomes in training, before a model is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from rich.table import Table
from rich.text import Text

from gsqc.bundle.bundle import Bundle
from gsqc.cli.command import OptionsOf
from gsqc.cli.output import Output
from gsqc.cli.reading_bar import reading_bar
from gsqc.cli.shared import JsonOption
from gsqc.compiler.installed import needs_compiler
from gsqc.data import DataOptions, Dataset, load_split
from gsqc.data.sequences import listed
from gsqc.data.summary import Bin, counts, example_numbers, example_parts, length_histogram
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import OptionError
from gsqc.limits import MAXIMUM_SEQUENCE_LENGTH
from gsqc.option import Option
from gsqc.option_texts import parse_options
from gsqc.printable import printable

_BAR = 30
_SEQUENCE = 128
HOW_TO_READ = OptionsOf(DataOptions, has=lambda o: o.field not in ("data", "images"))
LengthOption = Annotated[
    int | None,
    Option(
        "Tokens in a sequence, for a model. A bundle has its own.",
        minimum=1,
        maximum=MAXIMUM_SEQUENCE_LENGTH,
    ),
]


def data_command(
    data: Annotated[
        list[Path], Option("Files or directories, as for gsqc train --data.", is_argument=True)
    ],
    bundle: Annotated[
        str, Option("A bundle, or a model: a known name, a directory, a .gguf, .onnx or .pt2 file.")
    ],
    reading: Annotated[dict[str, Any], HOW_TO_READ],
    seq: LengthOption = None,
    json: JsonOption = False,
) -> None:
    """Show what DATA becomes in training: counts, token lengths and three examples."""
    out = Output(json)
    with out.console.status("reading the tokenizer"):
        tokenizer, length = _tokenizer(bundle, seq)
    options = parse_options(DataOptions, {"data": tuple(data), **reading})
    with reading_bar(out) as bar:
        dataset, held_out = load_split(options, tokenizer, length, on_progress=bar.update)
    record = counts(dataset, length)
    record["held_out_sequences"] = 0 if held_out is None else len(held_out.sequences)
    bins = length_histogram(dataset.record_lengths)
    examples = [
        example_parts(dataset.sequences[k], tokenizer)
        for k in example_numbers(len(dataset.sequences))
    ]
    _show(out, record, bins, examples, dataset)
    out.emit(
        {
            **record,
            "histogram": [[b.low, b.high, b.records] for b in bins],
            "examples": [
                [{"text": text, "trained": trained} for text, trained in parts]
                for parts in examples
            ],
        }
    )


def _tokenizer(name: str, seq: int | None) -> tuple[Tokenizer, int]:
    """The tokenizer and the sequence length of a bundle, or of a model that is not compiled.

    Raises BundleError, ModelError, OptionError.
    """
    if (Path(name) / "manifest.json").is_file():
        bundle = Bundle.open(Path(name))
        length = bundle.manifest.sequence_length
        if seq not in (None, length):
            raise OptionError(
                f"--seq is {seq}, but the bundle has sequences of {length}",
                "leave --seq out, or give the model's name",
            )
        return Tokenizer(bundle), length
    with needs_compiler("the compiler, which reads models,"):
        from gsqc.models import load_model

        model = load_model(name)
    if model.tokenizer_json is None:
        raise OptionError(
            f"the model {name} has no tokenizer", "give a model that has a tokenizer.json"
        )
    vocabulary = getattr(model.module.config, "vocab_size", None)
    metadata = {**model.metadata, "vocabulary": vocabulary}
    return Tokenizer.of_model(model.tokenizer_json, metadata), seq or _SEQUENCE


def _show(
    out: Output,
    record: dict[str, Any],
    bins: list[Bin],
    examples: list[list[tuple[str, bool]]],
    dataset: Dataset,
) -> None:
    shapes = ", ".join(f"{count:,} {name}" for name, count in record["shapes"].items())
    out.say(
        f"{record['records']:,} records ({shapes}) in {record['sequences']:,} sequences "
        f"of {record['sequence_length']}"
    )
    share = record["trained_tokens"] / max(record["tokens"], 1)
    out.say(
        f"{record['tokens']:,} tokens, {record['trained_tokens']:,} with a loss ({share:.0%}); "
        f"{record['padding_share']:.0%} of the sequences is padding"
    )
    out.say(dataset.report() or "nothing is cut")
    if record["held_out_sequences"]:
        out.say(f"{record['held_out_sequences']:,} sequences are held out")
    if dataset.control_tokens:
        found = listed([f"{text} {n:,}" for text, n in dataset.control_tokens.items()])
        out.say(f"control tokens in the text of {dataset.control_records:,} records: {found}")
    longest = f"{record['shortest']:,} to {record['longest']:,}, median {record['median']:,}"
    out.say(f"\ntokens of a record: {longest}")
    out.console.print(_histogram(bins, record["sequence_length"]))
    for number, parts in enumerate(examples, 1):
        out.say(f"\nexample {number} of {len(examples)}{_legend(out)}")
        _show_example(out, parts)


def _histogram(bins: list[Bin], length: int) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 1))
    most = max(b.records for b in bins)
    for b in bins:
        bar = "█" * -(-b.records * _BAR // most)
        style = "yellow" if b.low > length + 1 else ""
        note = "longer than a sequence" if b.low > length + 1 else ""
        table.add_row(f"{b.low:,} – {b.high:,}", f"{b.records:,}", Text(bar, style=style), note)
    return table


def _legend(out: Output) -> str:
    return " (dimmed: no loss)" if out.console.is_terminal else ""


def _show_example(out: Output, parts: list[tuple[str, bool]]) -> None:
    """Print an example with its tokens without a loss dimmed.

    Output that is no terminal cannot dim, so there each part has lines of its own.
    """
    if out.console.is_terminal:
        text = Text()
        for part, trained in parts:
            text.append(printable(part), style="" if trained else "dim")
        out.console.print(text, soft_wrap=True)
        return
    for part, trained in parts:
        for line in printable(part).removesuffix("\n").split("\n"):
            out.say(f"{'  loss' if trained else '     ·'} | {line}")
