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
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    pipeline,
)

from processing.jobs.processes import enough_memory
from processing.problems import Problem, check_at_least_one


CAPTIONERS = ("blip", "git", "vision-encoder-decoder")  # which are asked nothing
TESSERACT = "tesseract"
OCR_FAILED = "tesseract cannot read the letters of this picture"
OCR_SECONDS = 60


@dataclass
class ContextOptions:
    """
    What is to be said of pictures.

    Args:
        caption_model: a checkpoint of an image-to-text model, Hub name or folder: one that makes a text of a picture
            alone (BLIP, GIT, a vision encoder with a text decoder), or one with a chat template, which is asked by the
            `caption_prompt`; None for no captions.
        caption_prompt: what a model with a chat template is asked.
        max_caption_tokens: the longest caption.
        ocr: whether letters are read, by the program tesseract.
        ocr_languages: of the letters, as tesseract names them.
        ocr_confidence: words below this confidence, from 0 to 100, are left out: of photographs, tesseract reads much
            that is none.

    Raises:
        ValueError: for options that are missing or out of range.
    """

    caption_model: str | None = None
    caption_prompt: str = "Describe the picture in one sentence."
    max_caption_tokens: int = 30
    ocr: bool = False
    ocr_languages: Sequence[str] = ("eng",)
    ocr_confidence: float = 60.0

    def __post_init__(self) -> None:
        if self.caption_model is None and not self.ocr:
            raise ValueError("Nothing is to be said of the pictures. Name a caption_model, set ocr to true, or both.")
        check_at_least_one(max_caption_tokens=self.max_caption_tokens)
        if not self.caption_prompt.strip():
            raise ValueError("caption_prompt must say what a model with a chat template is asked.")
        if not 0 <= self.ocr_confidence <= 100:
            raise ValueError(f"ocr_confidence must be a number from 0 to 100, got {self.ocr_confidence!r}.")
        if self.ocr and not self.ocr_languages:
            raise ValueError("ocr_languages must name a language, such as eng.")


class Captioner:
    """
    A model that makes captions, the most likely words one after another.

    Args:
        prompt: what it is asked, see [`ContextOptions`]. A model that is asked nothing does not look at it.

    Raises:
        ValueError: for a checkpoint of another kind.
        OSError: for one that is not there.
    """

    def __init__(self, checkpoint: str, max_new_tokens: int, device: torch.device | str, prompt: str):
        self.prompt = prompt if is_asked(checkpoint) else None
        self.options = {"max_new_tokens": max_new_tokens, "do_sample": False, "num_beams": 1}
        self.device = device
        if self.prompt is not None:
            self.pipeline = pipeline("image-text-to-text", model=checkpoint, device=device)
            return
        self.image_processor = AutoImageProcessor.from_pretrained(checkpoint)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
        model: Any = AutoModelForImageTextToText.from_pretrained(checkpoint)
        self.model = model.to(device).eval()

    def __call__(self, images: Sequence[Image.Image]) -> list[str]:
        """A caption of each picture."""
        with enough_memory(len(images)):
            texts = self._of_picture(images) if self.prompt is None else self._asked(images)
        return [" ".join(text.split()) for text in texts]

    @torch.no_grad()
    def _of_picture(self, images: Sequence[Image.Image]) -> list[str]:
        pixels = self.image_processor(images=list(images), return_tensors="pt")["pixel_values"].to(self.device)
        ids = self.model.generate(pixel_values=pixels, **self.options)
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)

    def _asked(self, images: Sequence[Image.Image]) -> list[str]:
        question = {"type": "text", "text": self.prompt}
        chats: Any = [[{"role": "user", "content": [{"type": "image", "image": image}, question]}] for image in images]
        answers: Any = self.pipeline(text=chats, return_full_text=False, generate_kwargs=self.options)
        return [of_picture[0]["generated_text"] for of_picture in answers]


def is_asked(checkpoint: str) -> bool:
    """
    Whether a model is asked for a caption by words, as its chat template puts them. A ValueError for a checkpoint that
    makes no text of a picture, an OSError for one that is not there.
    """
    try:
        config = AutoConfig.from_pretrained(checkpoint)
    except OSError as error:  # in which transformers does not always say what it looked for
        raise OSError(f"caption_model {checkpoint}: {error}") from error
    if config.model_type in CAPTIONERS:
        return False
    is_known = type(config) in AutoModelForImageTextToText._model_mapping
    if not is_known or getattr(AutoProcessor.from_pretrained(checkpoint), "chat_template", None) is None:
        raise ValueError(
            f"caption_model {checkpoint} is a model of the type {config.model_type}. Expected one that makes a text "
            f"of a picture alone, of the type {', '.join(CAPTIONERS)}, or another image-to-text model of transformers "
            "whose processor has a chat template."
        )
    return True


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
