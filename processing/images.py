"""Any source of a picture -> an RGB `PIL.Image.Image` with its pixels loaded, or an error that says what is wrong."""

import os
import re
import stat
import warnings
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from transformers import AutoConfig, AutoImageProcessor, CLIPImageProcessorPil
from transformers.utils import logging

from .problems import Problem, ProblemError


logger = logging.get_logger(__name__)

MAX_IMAGE_PIXELS = 100_000_000

# What may be wrong with a source.
NO_SUCH_FILE = "there is no such file"
ADDRESS = "this is an address or a picture as text; nothing is downloaded here: give the path of a file, or its bytes"
DIRECTORY = "this is a directory, not a file"
SPECIAL_FILE = "this is not a regular file"
EMPTY = "the source is empty (0 bytes)"
NO_SOURCE = "neither 'bytes' nor 'path' is given"
WRONG_TYPE = "a picture is a path, bytes, a PIL image, a uint8 array or a dict with 'path' or 'bytes'"
WRONG_ARRAY = "an array of a picture is uint8 of shape (height, width, 3) or (height, width)"
UNKNOWN_FORMAT = "this is not a picture in a format that Pillow reads, or it is cut off in its header"
DAMAGED = "the picture cannot be decoded"
TOO_LARGE = f"the picture is larger than {MAX_IMAGE_PIXELS // 10**6} megapixels"
NO_PIXELS = "the picture holds no pixels"
NOT_FINITE = "the picture holds pixel values that are not finite"

# URLs, also where a path was made of one, and data URIs; base64 of JPEG, PNG, GIF and WebP begins as below.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|data:")
_BASE64 = re.compile(r"(?:.*/)?(?:/?9j/|iVBORw0KGgo|R0lGOD|UklGR)[A-Za-z0-9+/=\s]{40,}", re.DOTALL)
MAX_NAME = 200  # No more characters of a source are shown.

# A path, encoded bytes, a picture, its array, or what a `datasets` `Image(decode=False)` column holds.
ImageSource = str | os.PathLike | bytes | bytearray | Image.Image | np.ndarray | dict[str, Any]


class ImageError(ProblemError):
    """The error of a source that gives no picture. The message is the source's name, a colon and the problem."""


def is_address(source: Any) -> bool:
    """Whether what is given as a path is the address of a picture, or a picture as text."""
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
    return isinstance(name, str) and bool(_ADDRESS.match(name) or _BASE64.match(name))


def load_image(source: ImageSource) -> Image.Image:
    """
    Decode a picture to RGB, whatever its file format and colour mode.

    Transparency is dropped and the colours below it are kept as stored, an animation gives its first frame, and the
    EXIF orientation is left alone: the published code does all three, and its results depend on it. Grey of more than
    8 bits is scaled to 8 bits, not clipped as by Pillow.

    Raises:
        ImageError: for a source that is absent, empty, no picture, damaged, above `MAX_IMAGE_PIXELS` by its header, or
            of another type.
    """
    if isinstance(source, dict):
        data: Any = source.get("bytes")
        path: Any = source.get("path")
        if data is None and path is None:
            raise ImageError(Problem(NO_SOURCE, details=f"(the dict has the keys {sorted(source)})"), "dict")
        name, source = _shortened(path or "bytes"), path if data is None else data
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
            problem = check_source(source)
            if problem is not None:
                raise ImageError(problem, name)
            file: Any = BytesIO(source) if isinstance(source, bytes | bytearray) else source
            with Image.open(file) as image:
                return _to_rgb(image, name)
        except (ImageError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise ImageError(Problem(TOO_LARGE, details=f"({error})"), name) from error
        except UnidentifiedImageError as error:
            raise ImageError(Problem(UNKNOWN_FORMAT), name) from error
        except Exception as error:  # Damaged data make Pillow's plugins raise nearly every kind of error.
            # The system's errors name the path, which a published report must not.
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ImageError(Problem(DAMAGED, details=f"({reason})"), name) from error


def check_source(source: Any) -> Problem | None:
    """What keeps a path or bytes from holding a picture, as far as it shows without opening it; None if nothing."""
    if isinstance(source, bytes | bytearray):
        size = len(source)
    elif isinstance(source, str | os.PathLike):
        try:
            status = os.stat(source)
        except (FileNotFoundError, NotADirectoryError):
            return Problem(ADDRESS if is_address(source) else NO_SUCH_FILE)
        except OSError as error:  # The name is too long, or a folder may not be entered.
            if is_address(source):
                return Problem(ADDRESS)
            return Problem(DAMAGED, details=f"({error.strerror})")
        if stat.S_ISDIR(status.st_mode):
            return Problem(DIRECTORY)
        if not stat.S_ISREG(status.st_mode):  # Opening a pipe would wait for ever.
            return Problem(SPECIAL_FILE)
        size = status.st_size
    else:
        return Problem(WRONG_TYPE, details=f"(got {type(source).__name__})")
    return Problem(EMPTY) if size == 0 else None


def image_processor_of(vision_model: str | os.PathLike) -> Any:
    """The image processor of a checkpoint, or CLIP's in the size that the checkpoint's configuration names."""
    try:
        return AutoImageProcessor.from_pretrained(vision_model)
    except OSError:
        config = AutoConfig.from_pretrained(vision_model)
        size = getattr(config, "vision_config", config).image_size
        logger.warning(f"{vision_model} has no image processor; CLIP's with a size of {size} is used.")
        return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def resized_pictures(
    image_processor: Any,
    pictures: Sequence[Any],
    column: str,
    max_number: int,
    size: int,
    problems: list[tuple[int, Problem]] | None = None,
) -> list[np.ndarray]:
    """
    Pixels of the pictures of several examples, resized and cut: for each example uint8 (number, 3, size, size).

    Args:
        image_processor: CLIP's.
        pictures: of each example a list of sources, one source or None.
        column: of the pictures, one of `PICTURE_COLUMNS`.
        max_number: of pictures in an example; more are a ValueError.
        problems: if given, a picture that cannot be used is left out, and the number of its example and its problem
            are added here.

    Raises:
        ImageError: without `problems`, for a picture that cannot be used, with the number of its example.
    """
    examples = []
    for row, sources in enumerate(pictures):
        sources = [] if sources is None else sources if isinstance(sources, list | tuple) else [sources]
        if len(sources) > max_number:
            raise ValueError(
                f"Example {row} has {len(sources)} pictures in {column}, at most {max_number} are allowed."
            )
        pixels = np.zeros((len(sources), 3, size, size), dtype=np.uint8)
        number = 0
        for item, source in enumerate(sources):
            # One by one: the whole pictures of a batch would take gigabytes.
            try:
                image = load_image(source)
            except ImageError as error:
                problem = replace(error.problem, column=column, item=None if column == "image" else item)
                if problems is None:
                    raise ImageError(problem, f"Example {row}: {error.where}") from error
                problems.append((row, problem))
                continue
            resized = image_processor(
                image,
                size={"shortest_edge": size},
                crop_size={"height": size, "width": size},
                do_rescale=False,
                do_normalize=False,
                return_tensors="np",
            )["pixel_values"][0]
            if resized.dtype != np.uint8:
                raise TypeError(f"{type(image_processor).__name__} resizes uint8 pictures to {resized.dtype}.")
            pixels[number] = resized
            number += 1
        examples.append(pixels[:number])
    return examples


def _shortened(name: Any) -> str:
    name = str(name)
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}..."


def _name(source: ImageSource) -> str:
    if isinstance(source, str | os.PathLike):
        return _shortened(os.fspath(source))
    if isinstance(source, Image.Image):
        return getattr(source, "filename", "") or f"{source.width} x {source.height} {source.mode} picture"
    return type(source).__name__


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise ImageError(Problem(WRONG_ARRAY, details=f"(got {array.dtype} {array.shape})"), name)
    return Image.fromarray(array)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    size = f"({image.width} x {image.height} pixels)"
    if image.width * image.height > MAX_IMAGE_PIXELS:
        raise ImageError(Problem(TOO_LARGE, details=size), name)
    if image.width * image.height == 0:
        raise ImageError(Problem(NO_PIXELS, details=size), name)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_8_bit(image, name)
    return image.convert("RGB")


def _to_8_bit(image: Image.Image, name: str) -> Image.Image:
    """Grey of 16 or 32 bits to `L`. `I` and `F` declare no white value: it is the first usual one not exceeded."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if not np.isfinite([low, high]).all():
        raise ImageError(Problem(NOT_FINITE), name)
    if image.mode.startswith("I;16"):
        low, high = 0, 65535
    elif low >= 0 and high <= 65535:
        usual_whites = (1, 255, 65535) if image.mode == "F" else (255, 65535)
        low, high = 0, next(white for white in usual_whites if high <= white)
    return Image.fromarray(np.rint(np.interp(values, (low, high), (0, 255))).astype(np.uint8))
