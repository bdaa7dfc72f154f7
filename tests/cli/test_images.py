# SPDX-License-Identifier: Apache-2.0
"""gsqc images: what it writes and prints, and its errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")
pytest.importorskip("PIL")

from gsqc.bundle.image_file import read_images
from gsqc.models.vision import VisionTower
from tests.cli.run_command import Capture, run_json, run_text
from tests.models.seeing import PLACEHOLDER, write_photo, write_seeing

PROMPT = {"prompt": "<image>what?", "completion": "noise"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-llava")
    write_seeing("llava", folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, seed in (("a.png", 0), ("b.png", 1), ("same.png", 0)):
        write_photo(tmp_path / name, seed)
    records = [{**PROMPT, "image": name} for name in ("a.png", "b.png", "same.png", "a.png")]
    path = tmp_path / "photos.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_images(capsys: Capture, model: Path, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "photos.safetensors"
    code, lines = run_json(capsys, "images", model, "--data", data, "-o", output)
    assert code == 0
    maker = lines[0].pop("maker")
    assert lines == [
        {
            "file": str(output),
            "named": 3,
            "images": 2,
            "rows": 8,
            "most_rows": 4,
            "size_bytes": 8 * 64 * 2,
        }
    ]
    assert (maker["model"], maker["width"]) == (model.name, 64)
    found, tower = read_images(output), VisionTower(str(model))
    assert (found.maker.vision_sha256, found.maker.placeholder) == (tower.sha256(), PLACEHOLDER)
    rows, tokens = tower.see((data.parent / "b.png").read_bytes(), "b.png")
    image = list(found.images.values())[1]
    stored = np.ldexp(image.codes.astype(np.float32), image.exponents.astype(np.int32)[:, None])
    assert np.abs(stored - rows).max() <= np.abs(rows).max() * 2**-15  # half a unit of Row-16
    assert image.tokens.tolist() == tokens.tolist() == [PLACEHOLDER] * 4
    first = output.read_bytes()
    code, out, _ = run_text(capsys, "images", model, "--data", data, "-o", output)
    assert (code, out.split(": ")[1]) == (0, "2 images in 8 rows of 64, 4 at most, 0.0 MiB\n")
    assert output.read_bytes() == first


def test_a_bad_image_leaves_no_file(
    capsys: Capture, model: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "b.png").write_bytes(b"no image")
    output = tmp_path / "photos.safetensors"
    code, out, err = run_text(capsys, "images", model, "--data", data, "-o", output)
    assert (code, out) == (2, "")
    assert "b.png is no image, or damaged" in err
    assert "Traceback" not in err
    assert not output.exists()
