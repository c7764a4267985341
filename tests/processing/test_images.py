import os
import pickle
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from processing.images import (
    DAMAGED,
    DIRECTORY,
    EMPTY,
    NO_PIXELS,
    NO_SOURCE,
    NO_SUCH_FILE,
    NOT_FINITE,
    SPECIAL_FILE,
    TOO_LARGE,
    UNKNOWN_FORMAT,
    WRONG_ARRAY,
    ImageError,
    load_image,
)
from processing.problems import Problem
from processing.rows.picture_files import check_image


RED, GREEN = (255, 0, 0), (0, 128, 0)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> list:
    assert image.mode == "RGB"
    return np.asarray(image).tolist()


def grey(*values: int) -> list:
    return [[[value] * 3 for value in values]]


def png_header(width: int, height: int) -> bytes:
    """A PNG that is a header only: enough to know its size, not enough to decode."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    end = b"IDAT"
    chunks = [struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)), struct.pack(">I", 0) + end]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + struct.pack(">I", zlib.crc32(end))


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))


class TestSources:
    def test_every_source_gives_the_same_picture(self, picture, tmp_path):
        path = tmp_path / "picture.png"
        picture.save(path)
        data = path.read_bytes()
        sources = [
            path,
            str(path),
            data,
            bytearray(data),
            picture,
            Image.open(path),
            np.asarray(picture),
            {"path": str(path), "bytes": None},
            {"path": None, "bytes": data},
            {"path": "gone.jpg", "bytes": data},
        ]
        for source in sources:
            assert pixels(load_image(source)) == pixels(picture)

    def test_the_file_is_closed_and_may_go(self, picture, tmp_path):
        path = tmp_path / "picture.png"
        picture.save(path)
        image = load_image(path)
        path.unlink()
        assert image.getpixel((0, 0)) == (0, 1, 2)

    def test_a_picture_given_is_neither_closed_nor_shared(self, picture):
        image = load_image(picture)
        image.putpixel((0, 0), RED)
        assert picture.getpixel((0, 0)) == (0, 1, 2)

    def test_grey_array(self):
        assert pixels(load_image(np.array([[0, 7, 255]], dtype=np.uint8))) == grey(0, 7, 255)

    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((2, 2, 3), np.float32),
            np.zeros((2, 2, 4), np.uint8),
            np.zeros((3, 2, 2), np.uint8),
            np.zeros(4, np.uint8),
            np.zeros((0, 2, 3), np.uint8),
        ],
        ids=lambda array: f"{array.dtype}-{array.shape}",
    )
    def test_other_arrays(self, array):
        with pytest.raises(ImageError) as error:
            load_image(array)
        assert error.value.problem == Problem(WRONG_ARRAY, details=f"(got {array.dtype} {array.shape})")

    @pytest.mark.parametrize("source", [None, 3, [1, 2]])
    def test_other_types(self, source):
        with pytest.raises(ImageError, match=f"got {type(source).__name__}"):
            load_image(source)

    @pytest.mark.parametrize("source", [{}, {"path": None, "bytes": None}])
    def test_a_dict_without_a_picture(self, source):
        with pytest.raises(ImageError, match=NO_SOURCE):
            load_image(source)


class TestModes:
    def test_cmyk(self):
        image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
        assert np.abs(np.subtract(load_image(encoded(image, "JPEG")).getpixel((3, 3)), RED)).max() <= 2
        assert load_image(encoded(image, "TIFF")).getpixel((0, 0)) == RED

    @pytest.mark.parametrize("transparency", [None, 0, b"\x00\x80"])
    def test_palette(self, transparency):
        image = Image.new("P", (2, 1))
        image.putpalette([*RED, *GREEN])
        image.putpixel((1, 0), 1)
        options = {} if transparency is None else {"transparency": transparency}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert pixels(load_image(encoded(image, **options))) == [[list(RED), list(GREEN)]]

    def test_transparency_keeps_the_colours_as_stored(self):
        assert load_image(encoded(Image.new("RGBA", (1, 1), (10, 20, 30, 0)))).getpixel((0, 0)) == (10, 20, 30)
        assert load_image(encoded(Image.new("LA", (1, 1), (10, 0)))).getpixel((0, 0)) == (10, 10, 10)

    def test_one_bit(self):
        image = Image.new("1", (2, 1))
        image.putpixel((1, 0), 1)
        assert pixels(load_image(encoded(image))) == grey(0, 255)

    @pytest.mark.parametrize("format", ["PNG", "TIFF"])
    def test_16_bit_grey_is_scaled(self, format):
        image = Image.fromarray(np.array([[0, 257, 257 * 100, 65535]], dtype=np.uint16))
        assert image.mode == "I;16"
        assert pixels(load_image(encoded(image, format))) == grey(0, 1, 100, 255)

    def test_dark_16_bit_grey_stays_dark(self):
        assert pixels(load_image(Image.fromarray(np.array([[0, 200]], dtype=np.uint16)))) == grey(0, 1)

    @pytest.mark.parametrize(
        ("dtype", "values", "expected"),
        [
            (np.int32, (0, 100, 255), (0, 100, 255)),
            (np.int32, (0, 257, 65535), (0, 1, 255)),
            (np.int32, (-51, 0, 204), (0, 51, 255)),
            (np.int32, (0, 510_000, 2_550_000), (0, 51, 255)),
            (np.float32, (0, 0.2, 1), (0, 51, 255)),
            (np.float32, (0, 99.6, 255), (0, 100, 255)),
            (np.float32, (-1, 0, 4), (0, 51, 255)),
            (np.float32, (0, 0, 0), (0, 0, 0)),
        ],
    )
    def test_32_bit_grey(self, dtype, values, expected):
        image = Image.fromarray(np.array([values], dtype=dtype))
        assert image.mode in ("I", "F")
        assert pixels(load_image(encoded(image, "TIFF"))) == grey(*expected)

    def test_not_a_number(self):
        image = Image.fromarray(np.array([[0, np.nan]], dtype=np.float32))
        with pytest.raises(ImageError, match=NOT_FINITE):
            load_image(image)

    @pytest.mark.parametrize("format", ["GIF", "WEBP"])
    def test_an_animation_gives_its_first_frame(self, format):
        frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
        assert Image.open(BytesIO(data)).n_frames == 2
        assert load_image(data).getpixel((0, 0)) == RED

    def test_exif_orientation_is_left_alone(self):
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees for display
        assert load_image(encoded(Image.new("RGB", (4, 2)), "JPEG", exif=exif)).size == (4, 2)


class TestBadFiles:
    def problem(self, path: Path, data: bytes | None = None) -> Problem:
        """The one problem `load_image` and `check_image` give, whether the source is the path or its bytes."""
        if data is not None:
            path.write_bytes(data)
            with pytest.raises(ImageError, match=r"^bytes: "):
                load_image(data)
        with pytest.raises(ImageError) as error:
            load_image(path)
        problem = check_image(path)
        assert str(error.value) == f"{path}: {problem}"
        copy = pickle.loads(pickle.dumps(error.value))
        assert (str(copy), copy.problem, copy.where) == (str(error.value), problem, str(path))
        return problem

    def test_a_good_file(self, tmp_path, picture):
        picture.save(tmp_path / "a.png")
        assert check_image(tmp_path / "a.png") is None
        assert check_image(str(tmp_path / "a.png")) is None

    def test_missing(self, tmp_path, picture):
        assert self.problem(tmp_path / "a.png") == Problem(NO_SUCH_FILE)
        picture.save(tmp_path / "b.png")
        assert self.problem(tmp_path / "b.png" / "a.png") == Problem(NO_SUCH_FILE)

    def test_no_path_at_all(self):
        with pytest.raises(ImageError, match="embedded null byte"):
            load_image("a\0b")
        with pytest.raises(ImageError, match="too long"):
            load_image("a" * 5000)

    def test_directory(self, tmp_path):
        assert self.problem(tmp_path) == Problem(DIRECTORY)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in the file tree")
    def test_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        assert self.problem(tmp_path / "pipe") == Problem(SPECIAL_FILE)

    def test_empty(self, tmp_path):
        assert self.problem(tmp_path / "a.jpg", b"") == Problem(EMPTY)

    @pytest.mark.parametrize("data", [b"<html>404</html>", b"\xff\xd8\xff", b"\0" * 100])
    def test_not_a_picture(self, tmp_path, data):
        assert self.problem(tmp_path / "a.jpg", data) == Problem(UNKNOWN_FORMAT)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
    def test_truncated(self, tmp_path, format):
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
        data = encoded(noise, format)
        problem = self.problem(tmp_path / "a", data[: len(data) * 3 // 4])
        assert problem.kind in (DAMAGED, UNKNOWN_FORMAT)
        if format in ("JPEG", "PNG", "BMP"):
            assert "truncated" in problem.details

    def test_damaged_inside(self, tmp_path):
        data = bytearray(encoded(Image.effect_noise((64, 64), 50)))
        data[200:220] = bytes(20)
        assert self.problem(tmp_path / "a.png", bytes(data)).kind == DAMAGED

    @pytest.mark.parametrize(
        ("width", "height"),
        [(5_001, 5_000), (13_000, 13_000), (20_000, 20_000)],
        ids=["just above", "where Pillow warns", "where Pillow raises"],
    )
    def test_too_large_is_known_from_the_header(self, tmp_path, width, height):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            problem = self.problem(tmp_path / "a.png", png_header(width, height))
        details = f"({width} x {height} pixels; at most 25 megapixels, of a JPEG 4 times that)"
        assert problem == Problem(TOO_LARGE, details=details)

    def test_a_large_picture_below_our_limit_is_read(self, monkeypatch, picture):
        # Pillow's warning is at 89 megapixels; to show that it does not matter, it is moved, not the picture.
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", picture.width * picture.height - 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert pixels(load_image(encoded(picture))) == pixels(picture)

    def test_no_pixels(self):
        with pytest.raises(ImageError, match=rf"0 x 5 RGB picture: {NO_PIXELS} \(0 x 5 pixels\)"):
            load_image(Image.new("RGB", (0, 5)))

    def test_a_large_picture_in_memory(self, picture):
        for source, name in ((picture, "5 x 4 RGB picture"), (np.asarray(picture), "ndarray")):
            assert load_image(source, max_megapixels=20 / 10**6).size == (5, 4)
            with pytest.raises(ImageError, match=f"{name}: {TOO_LARGE}"):
                load_image(source, max_megapixels=19 / 10**6)
