# SPDX-License-Identifier: Apache-2.0
"""Training on images: from records with photos to steps, held against the float model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")
pytest.importorskip("PIL")
pytest.importorskip("tvm")

import torch
from PIL import Image

from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.compiler.bits import Bits
from gsqc.compiler.compile import compile_model
from gsqc.compiler.make_images import make_images
from gsqc.compiler.options import CompileOptions
from gsqc.data import DataOptions, TokenSequence
from gsqc.data.seen import ImageTable
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError, GsqcError
from gsqc.runtime.session import Session
from gsqc.training.open_run import open_run
from gsqc.training.options import TrainOptions
from gsqc.training.trainer import Trainer
from tests.cli.run_command import Capture, run_text
from tests.models.seeing import PLACEHOLDER, processor, write_photo, write_seeing

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}"
    "{% endfor %}"
)
VOCABULARY, ROWS = 320, 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, photos, the file of images, and a bundle that takes them."""
    root = tmp_path_factory.mktemp("images")
    model = root / "llava"
    write_seeing("llava", model)
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["chat_template"] = TEMPLATE
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    (root / "sub").mkdir()
    for k, name in enumerate(("a.png", "b.png", "sub/c.png")):
        write_photo(root / name, k)
    data = write(root, {"images": ["a.png", "b.png", "sub/c.png"]}, name="all.jsonl")
    make_images(str(model), [data], root / "all.safetensors", lambda done, all: None)
    options = CompileOptions(
        output=root / "llava.gsqc",
        sequence_length=48,
        image_rows=ROWS,
        adapter=Lora(rank=4, alpha=8),
        base="gse8",
        bits=Bits(8, 8, 8),
    )
    compile_model(str(model), options)
    return root


def write(folder: Path, *records: Any, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(map(json.dumps, records)))
    return path


@contextmanager
def opened(place: Path, run: Path, *records: Any, **how: Any) -> Iterator[Trainer]:
    data = write(place, *records)
    reading = DataOptions((data,), images=place / "all.safetensors", **how)
    with open_run(place / "llava.gsqc", reading, run, TrainOptions(steps=2)) as trainer:
        yield trainer


def asked(*names: str, text: str = "<image>" + "what?", said: str = "noise") -> dict[str, Any]:
    return {"prompt": text, "completion": said, "images": list(names)}


def float_loss(place: Path, sequence: TokenSequence, *names: str) -> float:
    """The loss of the whole float model on a sequence, with the photos' pixels."""
    from transformers import AutoModelForImageTextToText

    whole = AutoModelForImageTextToText.from_pretrained(place / "llava").eval()
    photos = [Image.open(place / name) for name in names]
    text = "<image>" * len(names)
    pixels = processor("llava")(images=photos, text=text, return_tensors="pt")["pixel_values"]
    ids = torch.tensor(sequence.tokens[None].copy()).long()
    ids[ids >= VOCABULARY] = PLACEHOLDER
    with torch.no_grad():
        logits = whole(input_ids=ids, pixel_values=pixels).logits[0]
    counts = torch.tensor(sequence.weights > 0)
    labels = torch.tensor(sequence.labels).long()
    return float(torch.nn.functional.cross_entropy(logits[counts], labels[counts]))


CHAT = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "and"}]},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": [{"type": "image", "path": "b.png"}]},
    {"role": "assistant", "content": "no"},
]


@pytest.mark.parametrize(
    ("record", "names"),
    [
        (asked("a.png"), ["a.png"]),
        (asked("a.png", "sub/c.png", text="<image>or<image>?"), ["a.png", "sub/c.png"]),
        ({"messages": CHAT, "image": "sub/c.png"}, ["sub/c.png", "b.png"]),
    ],
)
def test_the_loss_is_that_of_the_float_model(
    record: Any, names: list[str], place: Path, tmp_path: Path
) -> None:
    with opened(place, tmp_path / "run", record) as trainer:
        (sequence,) = trainer.dataset.sequences
        loss = trainer.session.evaluate([sequence]).loss
    assert int((sequence.tokens >= VOCABULARY).sum()) == 4 * len(names)
    # The base has 8 bits. The largest difference measured on five such records was 0.0021.
    assert loss == pytest.approx(float_loss(place, sequence, *names), abs=0.004)


def test_another_image_gives_another_loss_and_every_target_the_same_bits(
    place: Path, tmp_path: Path
) -> None:
    records = [asked("a.png"), asked("b.png"), asked("a.png", "b.png", text="<image><image>")]
    with opened(place, tmp_path / "run", *records) as trainer:
        first, second, both = trainer.dataset.sequences
        losses = [trainer.session.evaluate([one]).loss for one in (first, second)]
    assert losses[0] != losses[1]
    found = []
    for target in ("numpy", "native"):
        session = Session(place / "llava.gsqc", target=target)
        steps = [session.step(batch, "1e-3") for batch in ([first], [second, both], [first])]
        found.append([(step.loss, step.digest) for step in steps])
        assert steps[2].loss < steps[0].loss
    assert found[0] == found[1]


def test_rows_of_images_change_no_bit_of_a_text(place: Path) -> None:
    session = Session(place / "llava.gsqc", target="native")
    ids = np.zeros(48, np.int32)
    ids[:6] = (1, 40, 50, 60, 70, 80)
    weights = np.zeros(48, np.int32)
    weights[:5] = 1 << 14
    text = TokenSequence(ids, np.roll(ids, -1), weights)
    before = session.evaluate([text]).loss
    rows = np.full((ROWS, 64), 32767, np.int16), np.full(ROWS, 9, np.int8)
    seen = TokenSequence(np.where(ids == 40, VOCABULARY + 7, ids), text.labels, weights)
    with pytest.raises(DataError, match="tokens outside"):
        session.evaluate([seen])
    other = TokenSequence(seen.tokens, text.labels, weights, image_rows=rows)
    assert session.evaluate([other]).loss != before
    assert session.evaluate([text]).loss == before


BOTH = asked("a.png", "b.png", "sub/c.png", text="<image>" * 3)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (asked("d.png"), "d.png is not among the 3 images"),
        (asked("a.png", text="what?"), "1 images and 0 times <image>"),
        (asked(), "0 images and 1 times <image>"),
        (asked("a.png", said="<image>"), "1 images and 2 times <image>"),
        (asked("../all.jsonl"), "no path below the data's directory"),
        (BOTH, "12 rows of images, and the bundle takes 8"),
        ({"text": "<image>", "image": "a.png"}, "a text with images"),
        ({"messages": CHAT}, "a part is an image, and the record names none"),
    ],
)
def test_records_that_do_not_fit(record: Any, text: str, place: Path, tmp_path: Path) -> None:
    write_photo(place / "d.png", 9)
    with (
        pytest.raises(DataError, match=text),
        opened(place, tmp_path / "run", record),
    ):
        pass


def test_other_uses_are_refused_in_one_line(place: Path, tmp_path: Path, capsys: Capture) -> None:
    bundle, data = place / "llava.gsqc", write(place, asked("a.png"))
    images = ("--images", place / "all.safetensors")
    run = ("--run", tmp_path / "run", "--steps", 1)
    for arguments, text in (
        (("train", bundle, "--data", data, *run), "the key images is not supported (only gsqc"),
        (("train", bundle, "--data", data, *run, *images, "--packing"), "are not packed"),
        (("train", bundle, "--data", data, *run, "--images", data), "is no file of images"),
        (("eval", bundle, "--data", data), "the key images is not supported (only gsqc train"),
        (("data", data, "--bundle", bundle, *images), "No such option: --images"),
        (("tokens", bundle, "--data", data, *run[2:], "-o", tmp_path / "t"), "only gsqc train"),
        (("tokens", bundle, "--data", data, *run[2:], "-o", tmp_path / "t", *images), "No such"),
    ):
        code, out, err = run_text(capsys, *arguments)
        assert (code, out) == (2, ""), err
        assert text in err
        assert "Traceback" not in err


def test_train_goes_on_with_the_same_images_only(
    place: Path, tmp_path: Path, capsys: Capture
) -> None:
    data, run = write(place, asked("a.png"), asked("b.png")), tmp_path / "run"
    images = tmp_path / "mine.safetensors"
    images.write_bytes((place / "all.safetensors").read_bytes())
    start = ("train", place / "llava.gsqc", "--data", data, "--run", run, "--images", images)
    assert run_text(capsys, *start, "--steps", 2)[0] == 0
    code, _, err = run_text(capsys, "train", "--resume", run, "--steps", 3)
    assert code == 0, err
    write_photo(tmp_path / "x.png", 5)
    other = write(tmp_path, {"image": "x.png"})
    make_images(str(place / "llava"), [other], images, lambda done, all: None)
    code, _, err = run_text(capsys, *start, "--steps", 4)
    assert code == 2
    assert "is not among the 1 images" in err


def test_a_bundle_without_image_rows_takes_no_images(place: Path) -> None:
    bundle = Bundle.open(place / "llava.gsqc")
    tokenizer, file = Tokenizer(bundle), place / "all.safetensors"
    with pytest.raises(GsqcError, match="the bundle takes no images"):
        ImageTable(file, tokenizer, VOCABULARY, (0, 0))
    with pytest.raises(GsqcError, match="rows of 64 for llava, and the bundle takes rows of 128"):
        ImageTable(file, tokenizer, VOCABULARY, (8, 128))
