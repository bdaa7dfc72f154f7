# SPDX-License-Identifier: Apache-2.0
"""Images as rows: a language model that reads them gives the logits of the whole model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")
pytest.importorskip("PIL")

import torch
from PIL import Image

from gsqc.errors import DataError, ModelError
from gsqc.models.codes import encode_row16
from gsqc.models.vision import MOST_PIXELS, SEEING, VisionTower
from tests.models.seeing import CONFIGS, PLACEHOLDER, processor, write_photo, write_seeing

AFTER = [40, 50, 60, 70]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    write_seeing("llava", folder)
    return folder


def logits_of_rows(whole: Any, rows: Any, tokens: Any) -> torch.Tensor:
    """The logits of the language model alone, with rows in the place of the placeholders."""
    ids = torch.tensor([[1, *tokens.tolist(), *AFTER]])
    embedded = whole.get_input_embeddings()(ids).detach().clone()
    embedded[0, ids[0] == PLACEHOLDER] = torch.from_numpy(rows)
    with torch.no_grad():
        result: torch.Tensor = whole(inputs_embeds=embedded, use_cache=False).logits
    return result


@pytest.mark.parametrize("kind", SEEING)
def test_rows_in_place_of_placeholders_give_the_logits_of_the_whole(
    kind: str, tmp_path: Path
) -> None:
    whole = write_seeing(kind, tmp_path)
    photo = write_photo(tmp_path / "a.png", 0)
    rows, tokens = VisionTower(str(tmp_path)).see(photo.read_bytes(), "a.png")
    given = processor(kind)(
        images=[Image.open(photo)], text="<image>", return_tensors="pt", add_special_tokens=False
    )
    assert given["input_ids"][0].tolist() == tokens.tolist()
    ids = torch.tensor([[1, *tokens.tolist(), *AFTER]])
    inputs = {k: v for k, v in given.items() if k not in ("input_ids", "attention_mask")}
    with torch.no_grad():
        wanted = whole(input_ids=ids, use_cache=False, **inputs).logits
    assert torch.equal(logits_of_rows(whole, rows, tokens), wanted)
    arrays = encode_row16(rows).arrays
    stored = np.ldexp(arrays["codes"].astype(np.float32), arrays["exponents"].reshape(-1, 1))
    # 16 bits of the largest number of a row: half a unit is 2^-16 of it.
    assert np.abs(stored - rows).max() <= np.abs(rows).max() * 2**-15
    other, _ = VisionTower(str(tmp_path)).see(
        write_photo(tmp_path / "b.png", 1).read_bytes(), "b.png"
    )
    assert not np.array_equal(other, rows)


def test_the_hash_is_that_of_the_tower_alone(llava: Path, tmp_path: Path) -> None:
    first = VisionTower(str(llava)).sha256()
    whole = write_seeing("llava", tmp_path)
    whole.get_input_embeddings().weight.data += 1
    whole.save_pretrained(tmp_path)
    assert VisionTower(str(tmp_path)).sha256() == first
    whole.model.multi_modal_projector.linear_1.weight.data += 1
    whole.save_pretrained(tmp_path)
    assert VisionTower(str(tmp_path)).sha256() != first


def test_an_image_is_turned_as_its_camera_says(llava: Path, tmp_path: Path) -> None:
    tower, photo = VisionTower(str(llava)), Image.open(write_photo(tmp_path / "a.png", 0))
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    photo.rotate(90, expand=True).save(tmp_path / "b.png", exif=turned)
    seen = [tower.see((tmp_path / name).read_bytes(), name)[0] for name in ("a.png", "b.png")]
    assert np.array_equal(seen[0], seen[1])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "x.png is no image, or damaged: cannot identify"),
        (b"%PDF-1.4", "x.png is no image, or damaged: cannot identify"),
        (b"cut", "x.png is no image, or damaged"),
        (b"huge", "pixels, more than gsqc decodes"),
    ],
)
def test_what_is_no_image_is_one_line(
    llava: Path, tmp_path: Path, content: bytes, text: str
) -> None:
    if content == b"cut":
        content = write_photo(tmp_path / "a.png", 0).read_bytes()[:900]
    if content == b"huge":
        side = int(MOST_PIXELS**0.5) + 1
        Image.new("1", (side, side)).save(tmp_path / "a.png")
        content = (tmp_path / "a.png").read_bytes()
    with pytest.raises(DataError, match=text):
        VisionTower(str(llava)).see(content, "x.png")


def test_a_directory_without_a_tower_or_a_processor_is_refused(tmp_path: Path) -> None:
    write_seeing("llava", tmp_path)
    (tmp_path / "processor_config.json").unlink()
    with pytest.raises(ModelError, match="processor"):
        VisionTower(str(tmp_path))
    settings = json.loads((tmp_path / "config.json").read_text())
    for kind, text in (("qwen2_vl", "positions of three parts"), ("llama", "no model that sees")):
        (tmp_path / "config.json").write_text(json.dumps({**settings, "model_type": kind}))
        with pytest.raises(ModelError, match=text):
            VisionTower(str(tmp_path))


def test_every_type_that_sees_is_tried() -> None:
    assert set(CONFIGS) == set(SEEING)
