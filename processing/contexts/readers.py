"""What is said of a picture in words: a caption by an image-to-text model, its letters by the program tesseract."""

import io
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from processing.jobs.processes import JobError
from processing.problems import Problem, check_at_least_one


CAPTIONERS = ("blip", "git", "vision-encoder-decoder")  # which need no prompt
TESSERACT = "tesseract"
OCR_FAILED = "tesseract cannot read the letters of this picture"
OCR_SECONDS = 60


@dataclass
class ContextOptions:
    """
    What is to be said of pictures.

    Args:
        caption_model: a checkpoint that makes a text of a picture alone (BLIP, GIT, a vision encoder with a text
            decoder), Hub name or folder; None for no captions.
        max_caption_tokens: the longest caption.
        ocr: whether letters are read, by the program tesseract.
        ocr_languages: of the letters, as tesseract names them.
        ocr_confidence: words below this confidence, from 0 to 100, are left out: of photographs, tesseract reads much
            that is none.

    Raises:
        ValueError: for options that are missing or out of range.
    """

    caption_model: str | None = None
    max_caption_tokens: int = 30
    ocr: bool = False
    ocr_languages: Sequence[str] = ("eng",)
    ocr_confidence: float = 60.0

    def __post_init__(self) -> None:
        if self.caption_model is None and not self.ocr:
            raise ValueError("Nothing is to be said of the pictures. Name a caption_model, set ocr to true, or both.")
        check_at_least_one(max_caption_tokens=self.max_caption_tokens)
        if not 0 <= self.ocr_confidence <= 100:
            raise ValueError(f"ocr_confidence must be a number from 0 to 100, got {self.ocr_confidence!r}.")
        if self.ocr and not self.ocr_languages:
            raise ValueError("ocr_languages must name a language, such as eng.")


class Captioner:
    """
    A model that makes captions.

    Raises:
        ValueError: for a checkpoint of another kind.
        OSError: for one that is not there.
    """

    def __init__(self, checkpoint: str, max_new_tokens: int, device: torch.device | str):
        check_captioner(checkpoint)
        self.image_processor = AutoImageProcessor.from_pretrained(checkpoint)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
        model: Any = AutoModelForImageTextToText.from_pretrained(checkpoint)
        self.model, self.device, self.max_new_tokens = model.to(device).eval(), device, max_new_tokens

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image]) -> list[str]:
        """A caption of each picture."""
        pixels = self.image_processor(images=list(images), return_tensors="pt")["pixel_values"].to(self.device)
        try:
            ids = self.model.generate(
                pixel_values=pixels, max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1
            )
        except torch.OutOfMemoryError as error:
            raise JobError(
                f"There is too little memory for {len(images)} pictures in a batch ({error}). Do the same "
                "again with a smaller batch_size. What was finished is kept."
            ) from error
        return [" ".join(text.split()) for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def check_captioner(checkpoint: str) -> None:
    """A ValueError for a checkpoint that makes no text of a picture, an OSError for one that is not there."""
    try:
        config = AutoConfig.from_pretrained(checkpoint)
    except OSError as error:  # in which transformers does not always say what it looked for
        raise OSError(f"caption_model {checkpoint}: {error}") from error
    if config.model_type not in CAPTIONERS:
        raise ValueError(
            f"caption_model {checkpoint} is a model of the type {config.model_type}. Expected one that makes a text "
            f"of a picture alone, without a prompt, of the type {', '.join(CAPTIONERS)}."
        )


class LetterReader:
    """
    The program tesseract.

    Raises:
        ValueError: where it is not installed, or lacks one of the languages.
    """

    def __init__(self, languages: Sequence[str], confidence: float):
        if shutil.which(TESSERACT) is None:
            raise ValueError(
                "ocr needs the program tesseract, which is not installed. Install it (on Debian and Ubuntu the "
                "package tesseract-ocr), or leave ocr out."
            )
        there = _tesseract("--list-langs").stdout.decode(errors="replace").splitlines()[1:]
        missing = [language for language in languages if language not in there]
        if missing:
            raise ValueError(
                f"tesseract has no data for {', '.join(missing)}, but for {', '.join(there) or 'no language'}. "
                "Install them (on Debian and Ubuntu such as tesseract-ocr-deu), or name other ocr_languages."
            )
        self.version = _tesseract("--version").stdout.decode(errors="replace").partition("\n")[0].strip()
        self.languages, self.confidence = list(languages), confidence
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1)

    def __call__(self, images: Sequence[Image.Image]) -> list[str | Problem]:
        """The words that each picture shows, with one space between; the problem of one that cannot be read."""
        return list(self._threads.map(self._read, images))

    def _read(self, image: Image.Image) -> str | Problem:
        file = io.BytesIO()
        image.save(file, format="PPM")
        # Sparse text: what a picture shows is no page of paragraphs.
        options = ("stdin", "stdout", "-l", "+".join(self.languages), "--psm", "11", "tsv")
        try:
            answer = _tesseract(*options, given=file.getvalue())
        except (OSError, subprocess.TimeoutExpired) as error:
            return Problem(OCR_FAILED, "image", details=f"({type(error).__name__})")
        if answer.returncode:
            said = " ".join(answer.stderr.decode(errors="replace").split())
            return Problem(OCR_FAILED, "image", details=f"({said[:200]})")
        return words_of_table(answer.stdout.decode(errors="replace"), self.confidence)


def _tesseract(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    one_thread = {**os.environ, "OMP_THREAD_LIMIT": "1"}  # several pictures are read at once
    return subprocess.run(
        [TESSERACT, *arguments], input=given, capture_output=True, timeout=OCR_SECONDS, env=one_thread, check=False
    )


def words_of_table(table: str, confidence: float) -> str:
    """The words of tesseract's table, one a line with its confidence, that are not below that confidence."""
    header, *lines = (line.split("\t") for line in table.splitlines() if line)
    rows = [dict(zip(header, line, strict=False)) for line in lines]
    words = [row["text"].strip() for row in rows if row.get("text") and float(row["conf"]) >= confidence]
    return " ".join(word for word in words if word)
