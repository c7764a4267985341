import shutil

import pytest
from PIL import Image, ImageDraw, ImageFont

from processing.contexts import readers
from processing.contexts.readers import OCR_FAILED, Captioner, ContextOptions, LetterReader, words_of_table
from processing.problems import Problem


needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")


def sign(text):
    picture = Image.new("RGB", (420, 120), "white")
    ImageDraw.Draw(picture).text((20, 30), text, fill="black", font=ImageFont.load_default(40))
    return picture


@pytest.mark.parametrize("model_type", ["git", "vision-encoder-decoder", "llava"])
def test_captions_do_not_depend_on_the_batch(tiny_captioner, model_type):
    captioner = Captioner(tiny_captioner(model_type), 8, "cpu", "a man")
    assert (captioner.prompt is None) is (model_type != "llava")
    pictures = [Image.linear_gradient("L").convert("RGB"), Image.new("RGB", (60, 40), "blue")]
    captions = captioner(pictures)
    assert all(captions) and captions == [captioner([picture])[0] for picture in pictures]
    assert not any("[" in caption for caption in captions)


def test_what_makes_no_captions(minilm, tiny_captioner, tmp_path):
    without_template = tmp_path / "llava"
    shutil.copytree(tiny_captioner("llava"), without_template)
    (without_template / "chat_template.jinja").unlink()
    with pytest.raises(
        ValueError, match=r"is a model of the type bert\. Expected one that makes a text of a picture alone"
    ):
        Captioner(str(minilm), 8, "cpu", "a man")
    with pytest.raises(ValueError, match=r"is a model of the type llava\. .* whose processor has a chat template"):
        Captioner(str(without_template), 8, "cpu", "a man")
    with pytest.raises(OSError, match=r"caption_model .*nosuch"):
        Captioner(str(tmp_path / "nosuch"), 8, "cpu", "a man")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Nothing is to be said of the pictures"),
        ({"ocr": True, "ocr_confidence": 101}, "ocr_confidence must be a number from 0 to 100, got 101"),
        ({"ocr": True, "ocr_languages": []}, "ocr_languages must name a language"),
        ({"caption_model": "a", "caption_prompt": " "}, "caption_prompt must say what"),
        ({"caption_model": "a", "max_caption_tokens": 0}, "max_caption_tokens must be at least 1, got 0"),
    ],
)
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        ContextOptions(**options)


@needs_tesseract
def test_letters():
    reader = LetterReader(["eng"], 60)
    assert reader([sign("OPEN DAY PHOENIX"), Image.new("RGB", (60, 40), "red")]) == ["OPEN DAY PHOENIX", ""]
    with pytest.raises(ValueError, match=r"tesseract has no data for xyz, but for .*eng"):
        LetterReader(["eng", "xyz"], 60)


@needs_tesseract
def test_a_picture_that_takes_too_long_is_a_problem(monkeypatch):
    reader = LetterReader(["eng"], 60)
    monkeypatch.setattr(readers, "OCR_SECONDS", 0.001)
    assert reader([sign("OPEN")]) == [Problem(OCR_FAILED, "image", details="(TimeoutExpired)")]


def test_without_the_program(monkeypatch):
    monkeypatch.setattr(readers.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="ocr needs the program tesseract, which is not installed"):
        LetterReader(["eng"], 60)


def test_words_of_low_confidence_are_left_out():
    table = "level\tconf\ttext\n1\t-1\t\n5\t96.2\tOPEN\n5\t20\t~f\n5\t95\t \n5\t60\tDAY\n"
    assert words_of_table(table, 60) == "OPEN DAY" and words_of_table(table, 0) == "OPEN ~f DAY"
