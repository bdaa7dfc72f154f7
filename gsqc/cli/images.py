# SPDX-License-Identifier: Apache-2.0
"""gsqc images: computes the image tokens of a data set once, with a model's vision tower."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from gsqc.cli.output import Output, mib
from gsqc.cli.shared import DownloadOption, JsonOption, fetch_if_asked
from gsqc.compiler.installed import needs_compiler
from gsqc.option import Option
from gsqc.printable import printable


def images_command(
    model: Annotated[
        str,
        Option("Directory of a model that sees, or ORG/NAME from the cache.", is_argument=True),
    ],
    data: Annotated[
        list[Path],
        Option("JSONL or JSON files whose records name images, or directories of them."),
    ],
    output: Annotated[
        Path,
        Option("The file to write.", flag="--output", short="-o", example="photos.safetensors"),
    ],
    download: DownloadOption = False,
    json: JsonOption = False,
) -> None:
    """Compute how MODEL sees the images of the data, and write it as integers.

    The vision tower and the projector run once, in floats, on the CPU. Another machine may give
    other bits, so keep the file with the data. gsqc train --images takes it.
    """
    out = Output(json)
    with needs_compiler():
        from gsqc.compiler.make_images import make_images
    fetch_if_asked(download, model, out)
    with out.console.status("reading the model") as status:
        made = make_images(
            model, data, output, lambda done, all: status.update(f"image {done} of {all}")
        )
    out.say(
        f"wrote {printable(str(output))}: {made.images:,} images in {made.rows:,} rows of "
        f"{made.maker.width}, {made.most_rows} at most, {mib(made.size_bytes)}"
    )
    out.emit({"file": str(output), **asdict(made)})
