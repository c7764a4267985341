import os
import pickle
import struct
import threading
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from transformers import BitImageProcessorPil, CLIPImageProcessorPil

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
    TOO_LONG,
    UNKNOWN_FORMAT,
    WRONG_ARRAY,
    ImageError,
    full_size,
    load_image,
    resized_pictures,
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

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16", "I", "F"])
    def test_an_array_is_read_as_its_picture_is(self, mode):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 9, 4), dtype=np.uint8)).convert("RGBA")
        image = image.convert("L").convert(mode) if mode in ("1", "I;16", "I", "F") else image.convert(mode)
        array = np.asarray(image)
        expected = pixels(load_image(image))
        forms = [array, array[..., None], array[None]] if array.ndim == 2 else [array, np.moveaxis(array, -1, 0)]
        for form in forms:
            assert pixels(load_image(form)) == expected
            tensor = torch.from_numpy(np.array(form, order="C"))
            assert pixels(load_image(tensor)) == expected

    def test_numbers_of_an_array_are_scaled_as_grey_is(self):
        values = np.array([[[0, 51, 255], [102, 204, 1]]] * 5, np.uint8)
        for form in (values.astype(np.int64), values.astype(np.float16), values / 255, values > -1):
            expected = np.full_like(values, 255) if form.dtype == bool else values
            assert pixels(load_image(form)) == expected.tolist()
        channels_first = torch.from_numpy(values).permute(2, 0, 1)
        for dtype in (torch.bfloat16, torch.float32, torch.int32):  # 8 bits of precision are enough for 0 to 255
            assert pixels(load_image(channels_first.to(dtype))) == values.tolist()
        assert pixels(load_image(channels_first.float().div(255).requires_grad_())) == values.tolist()
        with pytest.raises(ImageError, match=NOT_FINITE):
            load_image(np.full((5, 5, 3), np.nan))

    @pytest.mark.parametrize("shape", [(3, 5, 3), (1, 5, 3), (2, 5, 4)])
    def test_channels_first_or_last(self, shape):
        with pytest.raises(ImageError, match="may be its first or its last"):
            load_image(np.zeros(shape, np.uint8))
        # Pictures without an alpha channel are by far more frequent.
        assert load_image(np.zeros((4, 5, 3), np.uint8)).size == (5, 4)
        assert load_image(np.zeros((3, 4, 2), np.uint8)).size == (2, 4)

    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((5, 5, 5), np.uint8),
            np.zeros(4, np.uint8),
            np.zeros((1, 5, 5, 3), np.uint8),
            np.zeros((5, 5, 3), complex),
            np.zeros((5, 5), object),
        ],
        ids=lambda array: f"{array.dtype}-{array.shape}",
    )
    def test_other_arrays(self, array):
        with pytest.raises(ImageError) as error:
            load_image(array)
        assert error.value.problem == Problem(WRONG_ARRAY, details=f"(got {array.dtype} {array.shape})")

    def test_an_array_without_pixels(self):
        with pytest.raises(ImageError, match=NO_PIXELS):
            load_image(np.zeros((0, 2, 3), np.uint8))

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

    @pytest.mark.parametrize("limit", [1, 150])
    def test_the_limit_of_pillow_does_not_matter(self, monkeypatch, picture, limit):
        # Pillow's warning is at 89 megapixels; to show that it does not matter, it is moved, not the picture.
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert pixels(load_image(encoded(picture), max_megapixels=limit)) == pixels(picture)

    def test_no_pixels(self):
        with pytest.raises(ImageError, match=rf"0 x 5 RGB picture: {NO_PIXELS} \(0 x 5 pixels\)"):
            load_image(Image.new("RGB", (0, 5)))

    def test_a_large_picture_in_memory(self, picture):
        for source, name in ((picture, "5 x 4 RGB picture"), (np.asarray(picture), "ndarray")):
            assert load_image(source, max_megapixels=20 / 10**6).size == (5, 4)
            with pytest.raises(ImageError, match=f"{name}: {TOO_LARGE}"):
                load_image(source, max_megapixels=19 / 10**6)


class TestLargeJpegs:
    """The limit is 1 megapixel, so that small pictures can show what happens to large ones."""

    def test_one_below_the_limit_is_decoded_in_full(self):
        data = encoded(Image.effect_noise((1000, 1000), 90), "JPEG")
        image = load_image(data, max_megapixels=1)
        assert pixels(image) == pixels(Image.open(BytesIO(data)).convert("RGB"))
        assert full_size(image) == image.size == (1000, 1000)

    @pytest.mark.parametrize(("size", "decoded"), [((1001, 1000), (501, 500)), ((2000, 2000), (1000, 1000))])
    def test_one_above_the_limit_is_decoded_smaller(self, size, decoded):
        data = encoded(Image.linear_gradient("L").resize(size), "JPEG", quality=95)
        image = load_image(data, max_megapixels=1)
        assert image.size == decoded and full_size(image) == size
        exact = np.asarray(Image.open(BytesIO(data)).convert("RGB").resize(decoded, Image.Resampling.BOX), dtype=int)
        assert np.abs(np.asarray(image) - exact).max() <= 4
        assert full_size(pickle.loads(pickle.dumps(image))) == full_size(load_image(image)) == size
        # A part of it, or the same in another size, is a picture of its own.
        assert full_size(image.crop((0, 0, 50, 50))) == full_size(image.resize((50, 50))) == (50, 50)

    @pytest.mark.parametrize("format", ["JPEG", "PNG"])
    def test_one_far_above_it_is_not_decoded(self, format):
        data = encoded(Image.new("L", (2001, 2000)), format)
        with pytest.raises(ImageError, match=r"2001 x 2000 pixels; at most 1 megapixels, of a JPEG 4 times that"):
            load_image(data, max_megapixels=1)

    def test_a_file_does_not_say_its_full_size_itself(self):
        info = PngInfo()
        info.add_text("full size", "(1, 1, 5, 4)")
        assert full_size(load_image(encoded(Image.new("RGB", (5, 4)), pnginfo=info))) == (5, 4)


class TestFormats:
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
    def test_formats_that_are_read(self, format):
        image = load_image(encoded(Image.new("RGB", (40, 30), RED), format))
        assert image.size == (40, 30) and np.abs(np.subtract(image.getpixel((20, 15)), RED)).max() <= 3

    def test_of_several_jpegs_in_a_file_the_first_is_read(self):
        """Many phones write such files (MPO)."""
        images = [Image.new("RGB", (16, 8), colour) for colour in (RED, GREEN)]
        data = encoded(images[0], "MPO", save_all=True, append_images=images[1:])
        assert Image.open(BytesIO(data)).format == "MPO"
        assert pixels(load_image(data)) == pixels(Image.open(BytesIO(data)).convert("RGB"))

    def test_no_program_is_started(self, monkeypatch):
        monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: pytest.fail(f"started: {args}"))
        eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
        with pytest.raises(ImageError, match=r"a format that is read \(JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF\)"):
            load_image({"path": "photo.jpg", "bytes": eps})

    @pytest.mark.parametrize("format", ["QOI", "PPM", "ICO", "JPEG2000"])
    def test_other_formats(self, format):
        with pytest.raises(ImageError, match="not a picture in a format that is read"):
            load_image(encoded(Image.new("RGB", (16, 16)), format))


def chunk(name: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(**tags: tuple[int, int, bytes]) -> bytes:
    """A TIFF of tags by number (`t256`): type, count and value of each."""
    base = 14 + 12 * len(tags)
    entries = values = b""
    for name, (kind, count, value) in sorted(tags.items()):
        entries += struct.pack("<HHL", int(name[1:]), kind, count)
        entries += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<L", base + len(values))
        values += value if len(value) > 4 else b""
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + bytes(4) + values


def short(number: int) -> tuple[int, int, bytes]:
    return 3, 1, struct.pack("<H", number)


def rle_bitmap(width: int, height: int, data: bytes) -> bytes:
    """A BMP of run lengths."""
    header = struct.pack("<LiiHHLLiiLL", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<LL", 0, 0) + struct.pack("<L", 54 + 1024) + header + bytes(1024) + data


PNG_HEADER = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
GIF_HEADER = b"GIF89a" + struct.pack("<HH", 8, 8) + bytes(3)
GREY_TIFF = {"t256": short(64), "t257": short(64), "t258": short(8), "t262": short(1)}


class TestHostileFiles:
    """Each would take gigabytes or minutes, or did in a larger form."""

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(PNG_HEADER + chunk(b"teXt", b"") * 10_000, id="many small parts"),
            pytest.param(PNG_HEADER + chunk(b"iDAt", bytes(17 * 2**20)), id="a large part"),
            pytest.param(GIF_HEADER + b"!\xfe" + b"\1c" * 10_000, id="a comment of many parts"),
            pytest.param(tiff(**GREY_TIFF, t273=(3, 70_000, bytes(140_000)), t278=short(1)), id="many strips"),
            pytest.param(
                tiff(**GREY_TIFF, t322=short(63), t323=short(64), t324=(3, 60_000, bytes(120_000))),
                id="repeated tiles",
            ),
            pytest.param(
                tiff(
                    **GREY_TIFF, t259=short(8), t322=short(60_000), t323=short(60_000), t324=short(8), t325=short(99)
                ),
                id="a tile larger than the picture",
            ),
            pytest.param(rle_bitmap(1_000_000, 1, b"\0\2\xff\xff"), id="a step over many rows"),
        ],
    )
    def test_refused_before_it_is_decoded(self, data):
        with pytest.raises(ImageError, match=TOO_LONG):
            load_image(data)

    def test_more_bytes_than_pixels_need(self, picture, tmp_path):
        (tmp_path / "a.png").write_bytes(encoded(picture) + bytes(8_000_000))
        for source in (tmp_path / "a.png", (tmp_path / "a.png").read_bytes()):
            with pytest.raises(ImageError, match=rf"{TOO_LONG} \(more than 8 MB\)"):
                load_image(source, max_megapixels=1)

    def test_a_jpeg_of_many_scans(self):
        data = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
        start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
        assert load_image(data[:start] + data[start:end] * 30 + data[end:]).size == (64, 64)
        with pytest.raises(ImageError, match=TOO_LONG):
            load_image(data[:start] + data[start:end] * 60 + data[end:])
        profile = b"\xff\xe2\0\xca" + b"\xff\xd9" * 100  # A part of the header may hold what looks like the end.
        with pytest.raises(ImageError, match=TOO_LONG):
            load_image(data[:2] + profile + data[2:start] + data[start:end] * 60 + data[end:])

    def test_what_stands_behind_a_jpeg_or_in_a_part_of_its_header_is_no_scan(self):
        data = encoded(Image.new("RGB", (64, 64), RED), "JPEG")
        film, profile = b"\xff\xda" * 100, b"\xff\xe2\0\xca" + b"\xff\xda" * 100
        expected = load_image(data).tobytes()
        assert load_image(data + film).tobytes() == load_image(data[:2] + profile + data[2:]).tobytes() == expected

    @pytest.mark.parametrize("is_upright", [False, True])
    def test_a_thin_picture_is_cut_before_it_is_enlarged(self, is_upright):
        column = np.zeros((1, 200_000, 3), np.uint8)
        column[:, 99_990:100_010] = RED
        image = Image.fromarray(np.moveaxis(column, 1, 0) if is_upright else column)
        largest = []

        def processor(image: Image.Image, **options):
            largest.append(image.width * image.height * 224**2)
            return CLIPImageProcessorPil()(image, **options)

        processor.do_center_crop = True
        processor.size, processor.crop_size = {"shortest_edge": 224}, {"height": 224, "width": 224}
        (resized,) = resized_pictures(processor, [image], "image", 1, 224)
        assert largest[0] <= 25_000_000
        assert resized.shape == (1, 3, 224, 224) and (resized[0] == np.reshape(RED, (3, 1, 1))).all()

    def test_the_edges_are_cut_off_as_the_image_processor_does_it(self):
        """DINOv2's has the middle of a picture that is a little larger. Crops are whole."""
        row = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3).repeat(256, axis=0)
        processor = BitImageProcessorPil(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224})
        (whole,), (crop,) = (
            resized_pictures(processor, [[Image.fromarray(row)]], column, 1, size)[0]
            for column, size in (("image", 224), ("aux_crops", 64))
        )
        assert whole[0, 0].tolist() == list(range(16, 240))
        assert crop[0, 0, 0] < 4 and crop[0, 0, -1] > 251

    def test_the_middle_of_a_thin_picture_stays_where_it_is(self):
        row = np.repeat(np.arange(4001, dtype=np.uint16) % 256, 3).astype(np.uint8).reshape(1, 4001, 3)
        processor = CLIPImageProcessorPil()
        whole, cut = (
            resized_pictures(processor, [Image.fromarray(row)], "image", 1, 64, max_megapixels)[0]
            for max_megapixels in (25, 1)
        )
        assert np.abs(whole.astype(int) - cut).max() <= 1


class TestWarnings:
    def test_threads_leave_the_filters_as_they_are(self):
        """Two threads that saved and restored the filters in turn left those of the other."""
        first, second = (Image.new("L", (2, 2)) for _ in range(2))
        begun, go_on = threading.Event(), threading.Event()

        def load_slowly():
            begun.set()
            assert go_on.wait(60)

        first.load = load_slowly
        filters = [*warnings.filters]
        threads = [threading.Thread(target=load_image, args=[image]) for image in (first, second)]
        second.load = lambda: (go_on.set(), threads[0].join(60))
        threads[0].start()
        assert begun.wait(60)
        threads[1].start()
        for thread in threads:
            thread.join(60)
        assert warnings.filters == filters

    def test_damaged_metadata_of_a_jpeg_are_not_looked_at(self):
        exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x1a\1\5\0\1\0\0\0\xff\xff\xff\0"
        data = encoded(Image.new("RGB", (8, 8)), "JPEG", exif=exif)
        data = data.replace(b"JFIF", b"XXXX")  # which gives the resolution otherwise
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning):
                Image.open(BytesIO(data))
            assert load_image(data).size == (8, 8)
