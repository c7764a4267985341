"""Any source of a picture -> an RGB `PIL.Image.Image` with its pixels loaded, or an error that says what is wrong."""

import os
import stat
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError


MAX_IMAGE_PIXELS = 100_000_000
NO_SUCH_FILE = "no such file"

# A path, encoded bytes, a picture, its array, or what a `datasets` `Image(decode=False)` column holds.
ImageSource = str | os.PathLike | bytes | bytearray | Image.Image | np.ndarray | dict[str, Any]


class ImageError(ValueError):
    """A source that gives no picture. The message is the source's name, a colon and the reason."""


def load_image(source: ImageSource) -> Image.Image:
    """
    Decode a picture to RGB, whatever its file format and colour mode.

    Transparency is dropped and the colours below it are kept as stored, an animation gives its first frame, and the
    EXIF orientation is left alone: the published code does all three, and its results depend on it. Grey of more than
    8 bits is scaled to 8 bits, not clipped as by Pillow.

    Raises:
        ImageError: for a source that is absent, empty, no picture, damaged, or above `MAX_IMAGE_PIXELS` by its header.
        TypeError: for a source of another type.
    """
    if isinstance(source, dict):
        data: Any = source.get("bytes")
        path: Any = source.get("path")
        if data is None and path is None:
            raise ImageError(f"dict with keys {sorted(source)}: expected 'bytes' or 'path', both are missing or None")
        name, source = path or "bytes", path if data is None else data
    else:
        name = _name(source)

    # Pillow warns of sizes below our limit, of transparency and of broken EXIF data, and would raise under `-W error`.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if isinstance(source, Image.Image):
                return _to_rgb(source, name)
            if isinstance(source, np.ndarray):
                return _to_rgb(_from_array(source, name), name)
            with Image.open(_readable(source, name)) as image:
                return _to_rgb(image, name)
        except (ImageError, TypeError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise ImageError(f"{name}: larger than {MAX_IMAGE_PIXELS // 10**6} megapixels: {error}") from error
        except UnidentifiedImageError as error:
            raise ImageError(f"{name}: not a picture in a format Pillow reads, or cut off in its header") from error
        except Exception as error:  # Damaged data make Pillow's plugins raise nearly every kind of error.
            raise ImageError(f"{name}: cannot be decoded: {error or type(error).__name__}") from error


def check_image(path: str | os.PathLike) -> str | None:
    """Why `load_image` cannot read the file, `NO_SUCH_FILE` where it is absent, or None: decoded in full, not kept."""
    try:
        load_image(path)
    except ImageError as error:
        return str(error).removeprefix(f"{_name(path)}: ")
    return None


def _name(source: ImageSource) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, Image.Image):
        return getattr(source, "filename", "") or f"{source.width} x {source.height} {source.mode} picture"
    return type(source).__name__


def _readable(source: Any, name: str) -> Path | BytesIO:
    """What `Image.open` takes, once it is known to hold anything at all."""
    if isinstance(source, bytes | bytearray):
        size = len(source)
    elif isinstance(source, str | os.PathLike):
        try:
            status = os.stat(source)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ImageError(f"{name}: {NO_SUCH_FILE}") from error
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{name}: a directory, not a file")
        if not stat.S_ISREG(status.st_mode):  # Opening a pipe would wait for ever.
            raise ImageError(f"{name}: not a regular file")
        size = status.st_size
    else:
        raise TypeError(
            "A picture is given as a path, bytes, a PIL image, a uint8 array or a dict with 'path' or 'bytes'; "
            f"got {type(source).__name__}."
        )
    if size == 0:
        raise ImageError(f"{name}: empty (0 bytes)")
    return BytesIO(source) if isinstance(source, bytes | bytearray) else Path(source)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise ImageError(
            f"{name}: expected uint8 (height, width, 3) or (height, width), got {array.dtype} {array.shape}"
        )
    return Image.fromarray(array)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    size = f"{image.width} x {image.height} pixels"
    if image.width * image.height > MAX_IMAGE_PIXELS:
        raise ImageError(f"{name}: larger than {MAX_IMAGE_PIXELS // 10**6} megapixels: {size}")
    if image.width * image.height == 0:
        raise ImageError(f"{name}: holds no pixels: {size}")
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_8_bit(image, name)
    return image.convert("RGB")


def _to_8_bit(image: Image.Image, name: str) -> Image.Image:
    """Grey of 16 or 32 bits to `L`. `I` and `F` declare no white value: it is the first usual one not exceeded."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if not np.isfinite([low, high]).all():
        raise ImageError(f"{name}: pixel values that are not finite")
    if image.mode.startswith("I;16"):
        low, high = 0, 65535
    elif low >= 0 and high <= 65535:
        usual_whites = (1, 255, 65535) if image.mode == "F" else (255, 65535)
        low, high = 0, next(white for white in usual_whites if high <= white)
    return Image.fromarray(np.rint(np.interp(values, (low, high), (0, 255))).astype(np.uint8))
