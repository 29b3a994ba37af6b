"""Compressed images to arrays. What comes is from strangers: sizes are checked before anything is unpacked.

A PNG of 100 kB can claim, and unpack to, gigabytes. Its head tells the size, and is all that is read before the check.
"""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ladle.errors import InvalidInput
from ladle.protocol.tensor import Array
from transformer.image.settings import ImageSettings, Layout

FORMATS = ("PNG", "JPEG")
"""Pillow has a decoder for fifty formats, most of them seldom looked at for holes."""
_DATA_URL = "data:"


def decode_base64(value: object, where: str) -> bytes:
    """The bytes of `{"b64": …}`, of base64 in a string, or of a data: URL; InvalidInput says where it was none."""
    text = value.get("b64") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise InvalidInput(f'{where}: expected base64 in a string or in {{"b64": …}}')
    if text.startswith(_DATA_URL):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidInput(f"{where}: is no base64: {error}") from None


def decode_image(content: bytes, settings: ImageSettings, where: str) -> Array:
    """The image as `(height, width, channels)` of uint8, in the wanted size and mode."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size check warns; ours below is a limit.
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return _resized(image, settings, where)
    except UnidentifiedImageError:
        raise InvalidInput(f"{where}: is no {' or '.join(FORMATS)}") from None
    except Image.DecompressionBombError as error:
        raise InvalidInput(f"{where}: {error}") from None
    except (OSError, SyntaxError, ValueError) as error:  # What Pillow's decoders raise for broken content.
        raise InvalidInput(f"{where}: the image is broken: {error}") from None


def _resized(image: Any, settings: ImageSettings, where: str) -> Array:
    width, height = image.size
    if width * height > settings.pixels_max:
        raise InvalidInput(f"{where}: {width} x {height} pixels, at most {settings.pixels_max} are allowed")
    # A JPEG is unpacked at a half, a quarter or an eighth where that is enough, in as little of the time.
    image.draft(None if settings.mode == "RGBA" else settings.mode, (settings.width, settings.height))
    image = image.convert(settings.mode)
    if image.size != (settings.width, settings.height):
        image = image.resize((settings.width, settings.height), Image.Resampling.BILINEAR)
    pixels: Array = np.asarray(image, dtype=np.uint8)
    return pixels.reshape(settings.height, settings.width, settings.channels)


def tensor_of_pixels(images: list[Array], settings: ImageSettings) -> Array:
    """A batch in the layout and scale that the predictor takes: `(images, channels, height, width)` for NCHW."""
    batch: Array = np.stack(images)
    if settings.dtype != "UINT8":
        batch = batch.astype(np.float32) * np.float32(settings.scale)
        if settings.mean:
            batch -= np.asarray(settings.mean, dtype=np.float32)
        if settings.std:
            batch /= np.asarray(settings.std, dtype=np.float32)
    match settings.layout:
        case Layout.NCHW:
            batch = batch.transpose(0, 3, 1, 2)
        case Layout.FLAT:
            batch = batch.reshape(len(batch), -1)
        case Layout.NHWC:
            pass
    return np.ascontiguousarray(batch)
