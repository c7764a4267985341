"""Any source of a picture -> an RGB `PIL.Image.Image` with its pixels loaded, or an error that says what is wrong."""

import logging
import math
import os
import re
import stat
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from .columns import as_list
from .problems import Problem, ProblemError, shown


if TYPE_CHECKING:
    import torch


logger = logging.getLogger(__name__)

MAX_MEGAPIXELS = 25.0  # where nothing else is said

# The limits below keep the reading of any file below some 1 GB and 10 s. No usual picture comes near them.
# While a picture is decoded, Pillow may hold this many times `max_megapixels`. A JPEG may have as many pixels before
# it is decoded smaller.
MAX_DECODED = 4
# A file may have this many bytes for each pixel that is allowed. RGBA of 16 bits has as many.
MAX_BYTES_A_PIXEL = 8
# Pillow may read the header in this many parts and bytes: it joins some parts in quadratic time.
MAX_HEADER_READS, MAX_HEADER_BYTES = 10_000, 16 * 2**20
# Pillow may read the rest of the file in this many parts.
MAX_READS = 1_000_000
# A TIFF may have this many strips or tiles: Pillow makes an object of each.
MAX_STRIPS = 2**16
# A JPEG may have this many scans: each goes over the whole picture. Usual are 1 and 10.
MAX_SCANS = 50

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF")
Image.init()  # It registers Pillow's classes, which `_open` calls.


class _JpegFile(JpegImagePlugin.JpegImageFile):
    """A JPEG. Of a file that holds several pictures (MPO) it is the first one."""

    def _open(self) -> None:
        self.info["dpi"] = (72, 72)  # Else Pillow looks for it in the EXIF data, and warns where they are damaged.
        super()._open()


# What may be wrong with a source.
NO_SUCH_FILE = "there is no such file"
ADDRESS = "this is an address or a picture as text; nothing is downloaded here: give the path of a file, or its bytes"
DIRECTORY = "this is a directory, not a file"
SPECIAL_FILE = "this is not a regular file"
EMPTY = "the source is empty (0 bytes)"
NO_SOURCE = "neither 'bytes' nor 'path' is given"
WRONG_TYPE = "a picture is a path, bytes, a PIL image, an array, a tensor or a dict with 'path' or 'bytes'"
WRONG_ARRAY = "an array of a picture holds numbers, and has 2 dimensions or 3, with 1 to 4 channels first or last"
UNCLEAR_ARRAY = "the channels of this array may be its first or its last dimension; give the picture as a PIL image"
UNKNOWN_FORMAT = f"this is not a picture in a format that is read ({', '.join(FORMATS)}), or cut off in its header"
DAMAGED = "the picture cannot be decoded"
TOO_LARGE = "the picture has more pixels than max_megapixels allows"
TOO_LONG = "the file holds more than a picture needs, and would take too much time or memory"
NO_PIXELS = "the picture holds no pixels"
NOT_FINITE = "the picture holds pixel values that are not finite"

# URLs, also where a path was made of one, and data URIs; base64 of JPEG, PNG, GIF and WebP begins as below.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|data:")
_BASE64 = re.compile(r"(?:.*/)?(?:/?9j/|iVBORw0KGgo|R0lGOD|UklGR)[A-Za-z0-9+/=\s]{40,}", re.DOTALL)
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")  # of a part of a JPEG that has a length, or of its end
_FULL_SIZE = "full size"  # Pictures take their `info` along when they are copied or sent to another process.
MAX_NAME = 200  # No more characters of a source are shown.

# A path, encoded bytes, a picture, its array, or what a `datasets` `Image(decode=False)` column holds.
ImageSource = Union[str, os.PathLike, bytes, bytearray, Image.Image, np.ndarray, "torch.Tensor", dict[str, Any]]


class ImageError(ProblemError):
    """The error of a source that gives no picture. The message is the source's name, a colon and the problem."""


def is_address(source: Any) -> bool:
    """Whether what is given as a path is the address of a picture, or a picture as text."""
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
    return isinstance(name, str) and bool(_ADDRESS.match(name) or _BASE64.match(name))


def load_image(source: ImageSource, max_megapixels: float = MAX_MEGAPIXELS) -> Image.Image:
    """
    Decode a picture to RGB, whatever its colour mode, in one of the `FORMATS`.

    Transparency is dropped and the colours below it are kept as stored, an animation gives its first frame, and the
    EXIF orientation is left alone: the published code does all three, and its results depend on it. Grey of more than
    8 bits is scaled to 8 bits, not clipped as by Pillow. The warnings filters of the process are never changed, so
    that threads may call this; where warnings are errors, a file that Pillow warns of counts as damaged.

    Args:
        source: a path, bytes, a PIL image, a dict with `path` or `bytes`, or a numpy array or tensor: (height, width),
            or with 1 to 4 channels (grey, grey and alpha, RGB, RGBA) last or first. Numbers of other types than uint8
            are scaled as grey of more than 8 bits is: floats that do not exceed 1 go from 0 to 1.
        max_megapixels: the largest picture in millions of pixels. A JPEG of up to four times that size is decoded with
            a half or a quarter of its width and height, see [`full_size`].

    Raises:
        ImageError: for a source that is absent, empty, no picture, damaged, too large by its header, or of another
            type.
    """
    given: Any = source
    if isinstance(source, dict):
        data, path = source.get("bytes"), source.get("path")
        if data is None and path is None:
            raise ImageError(Problem(NO_SOURCE, details=f"(the dict has the keys {shown(list(source))})"), "dict")
        name, given = _shortened("bytes" if path is None else path), path if data is None else data
    else:
        name = _name(source)
    limit = int(max_megapixels * 10**6)
    if isinstance(given, np.ndarray) or _is_tensor(given):
        return _from_array(given, name, limit).convert("RGB")
    image = given if isinstance(given, Image.Image) else _open(given, name, limit)
    _check_size(image.size, name, limit)
    with _decoding(name):
        image.load()
        if image.mode == "F" or image.mode.startswith("I"):
            values = np.asarray(image)
        else:
            # Pillow would warn of a palette with several degrees of transparency.
            is_opaque = not isinstance(image.info.get("transparency"), bytes)
            return (image if is_opaque else image.convert("RGBA")).convert("RGB")
    return Image.fromarray(_to_8_bit(values, name)).convert("RGB")


def full_size(image: Image.Image) -> tuple[int, int]:
    """
    Width and height of the picture that [`load_image`] read, in whose pixels boxes are given. They are more than those
    of `image` where a large JPEG was decoded smaller.
    """
    stored = image.info.get(_FULL_SIZE)
    # What was cut out of it or made of it since is a picture of its own.
    return stored[:2] if isinstance(stored, tuple) and stored[2:] == image.size else image.size


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Around calls of Pillow with data of others, which make it raise nearly every kind of error."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        # The system's errors name the path, which a published report must not.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(Problem(DAMAGED, details=f"({reason})"), name) from error


class _PictureFile(BytesIO):
    """
    The bytes of a picture. It raises an ImageError once Pillow has read it in more than `reads_left` parts or has read
    more than `bytes_left` bytes.
    """

    def __init__(self, data: bytes | bytearray, name: str):
        super().__init__(data)
        self.name = name
        self.reads_left, self.bytes_left = MAX_HEADER_READS, MAX_HEADER_BYTES

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.reads_left -= 1
        if size is not None and size >= 0:  # Some read the whole file at once.
            self.bytes_left -= len(data)
        if min(self.reads_left, self.bytes_left) < 0:
            raise ImageError(Problem(TOO_LONG), self.name)
        return data


def _open(source: str | os.PathLike | bytes | bytearray, name: str, limit: int) -> ImageFile.ImageFile:
    """The picture in a file or its bytes, not decoded yet. What is no picture, or a hostile one, is an ImageError."""
    problem = check_source(source)
    if problem is not None:
        raise ImageError(problem, name)
    max_bytes = MAX_BYTES_A_PIXEL * limit
    if isinstance(source, bytes | bytearray):
        data = source
    else:
        with _decoding(name), open(source, "rb") as opened:
            data = opened.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ImageError(Problem(TOO_LONG, details=f"(more than {max_bytes // 10**6} MB)"), name)
    # `Image.open(formats=...)` would warn of more than 89 megapixels, which is an error under `-W error`, and refuse
    # twice as many, whatever `max_megapixels` is. Its limit `Image.MAX_IMAGE_PIXELS` is one for the whole process.
    plugins = {format_name: Image.OPEN[format_name.upper()] for format_name in FORMATS}
    start = bytes(data[:16])
    found = next((format_name for format_name, (_, accepts) in plugins.items() if accepts and accepts(start)), None)
    if found is None:
        raise ImageError(Problem(UNKNOWN_FORMAT), name)
    plugin: Any = _JpegFile if found == "JPEG" else plugins[found][0]
    file = _PictureFile(data, name)
    with _decoding(name):
        try:
            if found == "TIFF":
                _check_strips(file)
            image = plugin(file)
        except (SyntaxError, struct.error) as error:
            raise ImageError(Problem(UNKNOWN_FORMAT), name) from error
    file.reads_left, file.bytes_left = MAX_READS, sys.maxsize
    pixels = image.width * image.height
    if image.format == "JPEG" and pixels <= MAX_DECODED * limit:
        _check_scans(data, name)
        _draft(image, limit)
    if pixels <= limit and _decoded_size(image) > MAX_DECODED * limit:
        raise ImageError(Problem(TOO_LONG), name)
    return image


def _check_scans(data: bytes | bytearray, name: str) -> None:
    """Refuse a JPEG of more than `MAX_SCANS` scans. What stands behind its end, as the film of a phone, is no part."""
    place = scans = 0
    for _ in range(MAX_HEADER_READS):
        marker = _MARKER.search(data, place)
        if marker is None or marker[1] == b"\xd9":
            return
        scans += marker[1] == b"\xda"
        if scans > MAX_SCANS:
            break
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    raise ImageError(Problem(TOO_LONG), name)


def _check_strips(file: _PictureFile) -> None:
    """Refuse a TIFF in more than `MAX_STRIPS` strips or tiles, each of which Pillow would make an object of."""
    header = file.read(8)
    header += file.read(8) if header[2:3] == b"+" else b""  # BigTIFF
    directory = TiffImagePlugin.ImageFileDirectory_v2(header)
    file.seek(directory.next)
    directory.load(file)
    for tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS):
        offsets = directory.get(tag, ())
        if isinstance(offsets, tuple) and len(offsets) > MAX_STRIPS:
            raise ImageError(Problem(TOO_LONG), file.name)
    file.seek(0)


def _decoded_size(image: ImageFile.ImageFile) -> int:
    """The most pixels that Pillow has in memory, or writes one after another, to decode a picture."""
    tiles = [(extents, name) for name, extents, *_ in image.tile if extents is not None]
    size = sum((right - left) * (lower - upper) for (left, upper, right, lower), _ in tiles)
    if any(name == "bmp_rle" for _, name in tiles):  # A step may skip 255 rows, also below the last one.
        size += 256 * image.width
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # A tile may be larger than the picture.
        tile = [image.tag_v2.get(tag, 0) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)]
        size = max(size, math.prod(side for side in tile if isinstance(side, int)))
    return size


def _draft(image: ImageFile.ImageFile, limit: int) -> None:
    """Make Pillow decode a JPEG with a half or a quarter of its sides, so that it fits the limit."""
    width, height = image.size
    divisor = next(by for by in (1, 2, 4, 8) if math.ceil(width / by) * math.ceil(height / by) <= limit)
    if divisor > 1:
        image.draft(None, (width // divisor, height // divisor))
        image.info[_FULL_SIZE] = (width, height, *image.size)


def check_source(source: Any) -> Problem | None:
    """What keeps a path or bytes from holding a picture, as far as it shows without opening it; None if nothing."""
    if isinstance(source, bytes | bytearray):
        size = len(source)
    elif isinstance(source, str | os.PathLike):
        try:
            status = os.stat(source)
        except (OSError, ValueError) as error:  # a name too long or with NUL in it, a link to itself, a closed folder
            if is_address(source):
                return Problem(ADDRESS)
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                return Problem(NO_SUCH_FILE)
            return Problem(DAMAGED, details=f"({getattr(error, 'strerror', error)})")
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
    from transformers import AutoConfig, AutoImageProcessor, CLIPImageProcessorPil  # may be absent, see `warn_once`

    try:
        return AutoImageProcessor.from_pretrained(vision_model)
    except OSError:
        config = AutoConfig.from_pretrained(vision_model)
        size = getattr(config, "vision_config", config).image_size
        logger.warning(f"{vision_model} has no image processor; CLIP's with a size of {size} is used.")
        return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def picture_size(image_processor: Any) -> int:
    """Height and width of the whole pictures that an image processor makes; a ValueError if it makes no squares."""
    sizes = dict(image_processor.crop_size if image_processor.do_center_crop else image_processor.size)
    if "height" not in sizes or sizes["height"] != sizes.get("width"):
        raise ValueError(
            f"{type(image_processor).__name__} must make square pictures of one size, as CLIP's and SigLIP's do; its "
            f"size is {sizes}."
        )
    return sizes["height"]


def resized_pictures(
    image_processor: Any,
    pictures: Sequence[Any],
    column: str,
    max_number: int,
    size: int,
    max_megapixels: float = MAX_MEGAPIXELS,
    problems: list[tuple[int, Problem]] | None = None,
) -> list[np.ndarray]:
    """
    Pixels of the pictures of several examples, resized and cut: for each example uint8 (number, 3, size, size).

    Args:
        image_processor: one that cuts out the middle, as CLIP's, or one that squeezes a picture into a square, as
            SigLIP's.
        pictures: of each example a list of sources, one source or None.
        column: of the pictures, one of `PICTURE_COLUMNS`.
        max_number: of pictures in an example; more are a ValueError.
        max_megapixels: the largest picture, see [`load_image`].
        problems: if given, a picture that cannot be used is left out, and the number of its example and its problem
            are added here.

    Raises:
        ImageError: without `problems`, for a picture that cannot be used, with the number of its example.
    """
    examples, square = [], {"height": size, "width": size}
    for row, sources in enumerate(pictures):
        sources = as_list(sources)
        if len(sources) > max_number:
            raise ValueError(
                f"Example {row} has {len(sources)} pictures in {column}, at most {max_number} are allowed."
            )
        pixels = np.zeros((len(sources), 3, size, size), dtype=np.uint8)
        number = 0
        for item, source in enumerate(sources):
            # One by one: the whole pictures of a batch would take gigabytes.
            try:
                image = load_image(source, max_megapixels)
            except ImageError as error:
                is_only = column == "image" and len(sources) == 1
                problem = replace(error.problem, column=column, item=None if is_only else item)
                if problems is None:
                    raise ImageError(problem, f"Example {row}: {error.where}") from error
                problems.append((row, problem))
                continue
            resized_to = square
            if image_processor.do_center_crop:
                edge = _shortest_edge(image_processor, size) if column == "image" else size
                image, resized_to = _middle(image, edge, max_megapixels), {"shortest_edge": edge}
            resized = image_processor(
                image,
                size=resized_to,
                crop_size=square,
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


def _shortest_edge(image_processor: Any, size: int) -> int:
    """The short side of a picture out of which the middle is cut: DINOv2's is 256 pixels for a middle of 224."""
    own = dict(image_processor.size).get("shortest_edge")
    return size if own is None else max(size, round(own * size / dict(image_processor.crop_size)["height"]))


def _middle(image: Image.Image, size: int, max_megapixels: float) -> Image.Image:
    """
    The picture, or its middle where it is so thin that it would be too large with `size` as its short side. What is
    cut off here would be cut off afterwards.
    """
    shortest, longest = sorted(image.size)
    kept = shortest * max(int(max_megapixels * 10**6) // size**2, 1)
    if longest <= kept:
        return image
    cut = (longest - kept) // 2  # on either side: the middle stays where it is
    left, upper = (cut, 0) if image.width == longest else (0, cut)
    return image.crop((left, upper, image.width - left, image.height - upper))


def _shortened(name: Any) -> str:
    name = str(name) if isinstance(name, str | os.PathLike) else shown(name)
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}..."


def _name(source: ImageSource) -> str:
    if isinstance(source, str | os.PathLike):
        return _shortened(os.fspath(source))
    if isinstance(source, Image.Image):
        return getattr(source, "filename", "") or f"{source.width} x {source.height} {source.mode} picture"
    return type(source).__name__


def _check_size(size: tuple[int, int], name: str, limit: int) -> None:
    width, height = size
    if width * height > limit:
        most = f"at most {limit / 10**6:g} megapixels, of a JPEG {MAX_DECODED} times that"
        raise ImageError(Problem(TOO_LARGE, details=f"({width} x {height} pixels; {most})"), name)
    if width * height == 0:
        raise ImageError(Problem(NO_PIXELS, details=f"({width} x {height} pixels)"), name)


def _is_tensor(source: Any) -> bool:
    """Whether it is a tensor of torch, which is imported where there is one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def _from_array(source: Union[np.ndarray, "torch.Tensor"], name: str, limit: int) -> Image.Image:
    """A picture of mode `L`, `LA`, `RGB` or `RGBA`."""
    details = f"(got {source.dtype} {tuple(source.shape)})"
    if not isinstance(source, np.ndarray):
        source = source.detach().cpu()
        # numpy has no bfloat16
        source = (source.float() if str(source.dtype) == "torch.bfloat16" else source).numpy()
    array = source
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.dtype.kind not in "buif":
        raise ImageError(Problem(WRONG_ARRAY, details=details), name)
    for numbers in ((1, 3), (2, 4)):  # The second ones have an alpha channel, and are rarer.
        axes = [axis for axis in (0, 2) if array.shape[axis] in numbers]
        if axes:
            break
    if len(axes) != 1:
        raise ImageError(Problem(UNCLEAR_ARRAY if axes else WRONG_ARRAY, details=details), name)
    array = np.moveaxis(array, axes[0], 2)
    _check_size((array.shape[1], array.shape[0]), name, limit)
    array = array[..., 0] if array.shape[2] == 1 else array
    return Image.fromarray(array if array.dtype == np.uint8 else _to_8_bit(array, name))


def _to_8_bit(values: np.ndarray, name: str) -> np.ndarray:
    """
    Numbers as uint8. Where the type declares no white value, as only that of 16 bits does, it is the first usual one
    that is not exceeded.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ImageError(Problem(NOT_FINITE), name)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        low, high = 0, 65535
    elif low >= 0 and high <= 65535:
        usual_whites = (1, 255, 65535) if values.dtype.kind in "bf" else (255, 65535)
        low, high = 0, next(white for white in usual_whites if high <= white)
    scaled = np.empty(values.shape, dtype=np.uint8)
    # In parts, since all of them as float64 would fill the memory.
    operands: Any = {"op_flags": [["readonly"], ["writeonly"]], "flags": ["external_loop", "buffered"]}
    with np.nditer([values, scaled], buffersize=2**20, **operands) as parts:
        for part, scaled_part in parts:
            scaled_part[...] = np.rint(np.interp(part, (low, high), (0, 255)))
    return scaled
