# SPDX-License-Identifier: Apache-2.0
"""The vision tower and the projector of a model that sees: an image becomes rows of floats.

transformers' own model and processor compute them. Of the language model only what transformers
needs to build the whole is read: its first layer.
"""

from __future__ import annotations

import copy
import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gsqc.errors import DataError, ModelError, OptionError
from gsqc.models import model_path
from gsqc.models.readers.hf_config import read_config
from gsqc.models.readers.meta_model import meta_wrapper
from gsqc.models.readers.stored_tensors import stored_tensors
from gsqc.models.readers.text_files import first_line
from gsqc.models.readers.wrappers import WRAPPERS

SEEING = ("llava", "llava_next", "idefics3")
"""Model types whose images were held against transformers."""
_OTHER_ATTENTION = {
    "gemma3": "its image tokens see each other, and gsqc's attention is causal",
    "qwen2_vl": "its image tokens have positions of three parts",
    "qwen2_5_vl": "its image tokens have positions of three parts",
    "qwen3_vl": "its image tokens have positions of three parts",
}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
"""Kinds of image files that are decoded. A file may be a stranger's, and each decoder is a risk."""
MOST_PIXELS = 1 << 26
_OF_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
_TEXT_PARTS = ("language_model.", "text_model.", "lm_head.")


class VisionTower:
    """The tower and the projector of the model in a directory, on the CPU in float32.

    Raises ModelError if the model has none, or if gsqc does not take its images. OptionError if a
    package that decodes images is missing.
    """

    def __init__(self, model: str) -> None:
        path = model_path(model)
        if not os.path.isdir(path):
            raise ModelError(
                f"{path.name} is no directory of a model that sees",
                "give the directory that save_pretrained wrote",
            )
        config = read_config(path)
        self.model_type = str(config.model_type)
        _require_seeing(config)
        stored = stored_tensors(path)
        meta_wrapper(config, [tensor.shape for tensor in stored.values()])
        self.name = path.resolve().name
        self._processor = _load_processor(path)
        self._model = _load_tower(path, config)
        self.width = int(config.text_config.hidden_size)
        self.placeholder = int(config.image_token_id)
        # A placeholder that the tokenizer does not have would make texts without images.
        if self.placeholder != getattr(self._processor, "image_token_id", None):
            raise ModelError(
                f"{path.name}: config.json and the processor have two placeholders for images",
                "fetch the model again",
            )

    def sha256(self) -> str:
        """Of the names and float32 numbers of the tower's and the projector's parameters."""
        digest = hashlib.sha256()
        for name, parameter in sorted(self._model.named_parameters()):
            if not any(part in name for part in _TEXT_PARTS):
                digest.update(f"{name} {list(parameter.shape)}\n".encode())
                digest.update(np.ascontiguousarray(parameter.detach().numpy()).data)
        return digest.hexdigest()

    def see(
        self, content: bytes, name: str
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """The bytes of an image's file -> float32 [r, width], and the int32 tokens [n] that stand
        for it in a text, of which r are the placeholder. `name` is for errors.

        Raises DataError if it is no image, or damaged.
        """
        image = _decoded(content, name)
        try:
            given = self._processor(
                images=[image],
                text=self._processor.image_token,
                return_tensors="pt",
                add_special_tokens=False,
            )
            inputs = {key: value for key, value in given.items() if key not in _OF_TEXT}
            with torch.no_grad():
                pooled = self._model.get_image_features(**inputs).pooler_output
        except (ValueError, RuntimeError) as error:
            raise DataError(
                f"the model's processor refuses {name}: {first_line(error)}",
                "give an image of another size",
            ) from None
        rows = torch.cat([part.reshape(-1, self.width) for part in pooled]).float().numpy()
        tokens = given["input_ids"][0].numpy().astype(np.int32)
        if int((tokens == self.placeholder).sum()) != len(rows):
            raise ModelError(
                f"the processor writes {int((tokens == self.placeholder).sum())} placeholders for "
                f"{name}, and the tower gives {len(rows)} rows",
                "the processor's settings are those of another model: fetch the model again",
            )
        if not np.isfinite(rows).all():
            raise ModelError(
                f"the tower gives infinities or NaN for {name}", "fetch the model again"
            )
        return rows, tokens


def _require_seeing(config: Any) -> None:
    kind = config.model_type
    if kind in SEEING:
        return
    if kind not in WRAPPERS:
        raise ModelError(f"{kind} is no model that sees", f"gsqc images takes {', '.join(SEEING)}")
    why = _OTHER_ATTENTION.get(kind, "its images were not held against transformers")
    raise ModelError(
        f"gsqc takes no images of {kind}: {why}", f"gsqc images takes {', '.join(SEEING)}"
    )


def _load_processor(path: Path) -> Any:
    from transformers import AutoProcessor

    try:
        with _quiet():
            processor = AutoProcessor.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
    except ImportError as error:
        raise OptionError(
            f"a package that reads images is missing: {first_line(error)}",
            "pip install 'gsqc[images]'",
        ) from None
    except Exception as error:  # transformers raises errors of many types
        raise ModelError(
            f"transformers cannot read the processor of {path.name}: {first_line(error)}",
            "fetch the model again, with processor_config.json or preprocessor_config.json",
        ) from error
    if not hasattr(processor, "image_token"):
        raise ModelError(
            f"{path.name} has no processor for images and texts",
            "fetch the model again, with processor_config.json or preprocessor_config.json",
        )
    return processor


def _load_tower(path: Path, config: Any) -> Any:
    """The model with one layer of its language model. ModelError if weights of the rest lack."""
    from transformers import AutoModelForImageTextToText

    short = copy.deepcopy(config)
    short.text_config.num_hidden_layers = 1
    if getattr(short.text_config, "layer_types", None):
        short.text_config.layer_types = short.text_config.layer_types[:1]
    try:
        with _quiet():
            model, found = AutoModelForImageTextToText.from_pretrained(
                path,
                config=short,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
    except Exception as error:  # transformers raises errors of many types
        raise ModelError(
            f"transformers cannot read {path.name}: {first_line(error)}", "fetch the model again"
        ) from error
    missing = [n for n in sorted(found["missing_keys"]) if not any(p in n for p in _TEXT_PARTS)]
    if missing:
        raise ModelError(
            f"{path.name} lacks {len(missing)} weights of its tower, first {missing[0]}",
            "fetch the model again",
        )
    return model.eval()


def _decoded(content: bytes, name: str) -> Any:
    """The image in RGB, upright as its camera says. Raises DataError."""
    from PIL import Image, ImageOps

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with warnings.catch_warnings():
            # Pillow itself only warns of some sizes above ours.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MOST_PIXELS:
            raise DataError(
                f"{name} has {image.width} x {image.height} pixels, more than gsqc decodes",
                "make it smaller: a tower sees some hundred pixels a side",
            )
        return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, *bombs) as error:
        raise DataError(
            f"{name} is no image, or damaged: {first_line(error)}",
            f"give a file of {', '.join(FORMATS)}",
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and its report on the layers that are left out."""
    from transformers.utils import logging as reports

    logger = logging.getLogger("transformers")
    level, had_bars = logger.level, reports.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    reports.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if had_bars:
            reports.enable_progress_bar()
