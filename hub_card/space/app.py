"""
The page of a Space: a tweet and its picture go in, its entities come out.

    python app.py --model user/name
    python app.py --model runs/demo runs/other

Without `--model`, the checkpoints are those of the variable CHECKPOINTS (with spaces or commas between), else those
that README.md names as `models`. AUX_DETECTOR and RCNN_DETECTOR name detectors of transformers that find crops where
a tweet brings none; RELATION_MODEL names a checkpoint that finds the relations between the entities, on pictures
of the same sizes. Only the libraries of requirements.txt are needed: the model brings its own code.
"""

import argparse
import html
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any


os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from huggingface_hub import SpaceCard
from transformers import pipeline


logger = logging.getLogger(__name__)

HERE = Path(__file__).absolute().parent  # not resolved: in the Hub's cache this file is a link
MAX_CHARACTERS = 2_000
MAX_MEGABYTES = 10
MAX_WAITING = 100  # requests in the queue; one is answered at a time, so that memory does not grow with visitors
KEPT_SECONDS = 3_600  # of an upload

INTRODUCTION = """
# Entities in a tweet and its picture
Type a tweet, add its picture if it has one, and see which persons, places, organisations and other names are in it.
"""
NOTHING_YET = '<p class="note">The result comes here.</p>'

# Of what the pipeline's results show; the page around them follows the visitor's light or dark setting.
STYLE = """
.tagged { overflow-wrap: anywhere; line-height: 1.7; }
.tagged [role="status"] { padding-top: 1.2rem; }  /* clear of the label */
.tagged p { margin: .2rem 0 .6rem; font-size: 1.1rem; }
.tagged mark { border-radius: .3em; padding: .1em .25em; color: #1b1f24; }
.tagged mark small { font-weight: 600; margin-left: .35em; }
.tagged p.note, .tagged figcaption { color: var(--body-text-color-subdued); font-size: .95rem; }
.tagged article p.note { border-left: .25rem solid var(--color-accent); padding-left: .5rem; }
.tagged .pictures { display: flex; flex-wrap: wrap; gap: .8rem; align-items: flex-start; }
.tagged figure { margin: 0; max-width: 100%; }
.tagged figure img, .tagged figure svg { display: block; max-width: 100%; height: auto; border-radius: .3rem; }
"""

# The default one has grey on white that is too light to be read by everybody (WCAG 1.4.3).
GREY, GREY_ON_DARK = "*neutral_600", "*neutral_300"
THEME = gr.themes.Default().set(
    body_text_color_subdued=GREY,
    body_text_color_subdued_dark=GREY_ON_DARK,
    block_info_text_color=GREY,
    block_info_text_color_dark=GREY_ON_DARK,
    input_placeholder_color=GREY,
    input_placeholder_color_dark=GREY_ON_DARK,
)


def checkpoint_names(given: list[str] | None = None) -> list[str]:
    """
    Hub names or folders of the checkpoints to choose from, see the head of this file.

    Raises:
        SystemExit: where none is named.
    """
    card = HERE / "README.md"
    names = given or os.environ.get("CHECKPOINTS", "").replace(",", " ").split()
    if not names and card.exists():
        names = SpaceCard.load(card).data.get("models") or []
    if not names:
        raise SystemExit(
            "No checkpoint is named: --model NAME, CHECKPOINTS=NAME, or `models` at the head of README.md."
        )
    return names


def read_examples(folder: Path = HERE / "examples") -> list[list[str | None]]:
    """Text, path of the picture and boxes of each example; none where the folder is not there."""
    path = folder / "examples.json"
    examples = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return [
        [
            example["text"],
            str(folder / example["image"]) if example["image"] else None,
            json.dumps(example["crops"]) if example["crops"] else "",
        ]
        for example in examples
    ]


def error(message: str) -> gr.Error:
    """Shown on the page, which would take markup in it."""
    return gr.Error(html.escape(message), print_exception=False)


class Taggers:
    """
    Pipelines by the name of their checkpoint, each loaded once, when it is first asked for.

    Args:
        detectors: by the pipeline's option, `aux_detector` and `rcnn_detector`.
        relation_model: checkpoint that finds relations between the entities.
    """

    def __init__(self, detectors: dict[str, str], relation_model: str | None = None):
        self.detectors, self.relation_model = detectors, relation_model
        self._options: dict[str, Any] | None = None
        self._loaded: dict[str, Any] = {}
        self._lock = threading.Lock()

    def load(self, name: str) -> Any:
        """
        Raises:
            gr.Error: for a checkpoint that does not load.
        """
        with self._lock:
            if name not in self._loaded:
                try:
                    if self._options is None:
                        self._options = {**self.detectors, **self._load_extractor()}
                    self._loaded[name] = pipeline(  # type: ignore[call-overload]  # knows the library's own tasks
                        "multimodal-token-classification", model=name, trust_remote_code=True, **self._options
                    )
                except (OSError, ValueError) as reason:
                    logger.exception("%s does not load", name)
                    raise error(
                        f"The checkpoint {name} does not load. The log of this page's server says why."
                    ) from reason
            return self._loaded[name]

    def _load_extractor(self) -> dict[str, Any]:
        if self.relation_model is None:
            return {}
        name = self.relation_model
        extractor = pipeline("multimodal-relation-extraction", model=name, trust_remote_code=True)  # type: ignore[call-overload]
        return {"relation_extractor": extractor}

    def tag(
        self, text: str | None, picture: Any, boxes: str | None, checkpoint: str, explanation: str
    ) -> tuple[str, dict[str, Any]]:
        """
        What the page's button does.

        Args:
            picture: gradio's `ImageData` of an upload, or None.
            boxes: JSON of what the pipeline takes as `crops`; empty for none of the visitor's own.
            explanation: "none", or what the pipeline takes as `explain`.

        Returns:
            HTML, and the pipeline's report: `text`, `entities`, and where there are any `relations`, `crops` and
            `problems`.

        Raises:
            gr.Error: for input above the limits, and boxes that are no JSON.
        """
        text, boxes = text or "", boxes or ""  # None where the visitor never wrote anything
        if len(text) > MAX_CHARACTERS:
            raise error(f"The text has {len(text):,} characters, at most {MAX_CHARACTERS:,} are taken: shorten it.")
        row: dict[str, Any] = {"text": text, "image": read_picture(picture)}
        if boxes.strip():
            try:
                row["crops"] = json.loads(boxes)
            except (ValueError, RecursionError) as reason:
                raise error(
                    f"The boxes are no JSON: {reason}. Expected are lists such as [[20, 20, 90, 90]]."
                ) from reason
        result = self.load(checkpoint)(row, on_error="report", explain=None if explanation == "none" else explanation)
        for problem in result.get("problems", []):
            gr.Warning(html.escape(problem))
        return result._repr_html_(), dict(result)


def read_picture(picture: Any) -> dict[str, Any] | None:
    """
    An upload as the pipeline takes it, under the name that its owner knows.

    Raises:
        gr.Error: for one that is too large.
    """
    if picture is None:
        return None
    if picture.path is None:
        raise error("The picture came without a file: upload it.")
    path = Path(picture.path)
    megabytes = path.stat().st_size / 10**6
    if megabytes > MAX_MEGABYTES:
        raise error(f"The picture has {megabytes:.1f} MB, at most {MAX_MEGABYTES} are taken: make it smaller.")
    return {"path": picture.orig_name or path.name, "bytes": path.read_bytes()}


def build(
    checkpoints: list[str], examples: list[list[str | None]], taggers: Taggers, max_waiting: int = MAX_WAITING
) -> gr.Blocks:
    """
    The page.

    Args:
        checkpoints: to choose from; the first is chosen at first.
        examples: as `read_examples` gives them.
        taggers: what tags.
        max_waiting: requests in the queue.
    """
    with gr.Blocks(title="Entities in a tweet", delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(min_width=300):
                text = gr.Textbox(label="Tweet", lines=3, placeholder="so Phoenix is all over my timeline")
                picture = gr.Image(
                    label="Picture",
                    placeholder=f"Drop a picture of up to {MAX_MEGABYTES} MB here, or click",
                    sources=["upload", "clipboard"],
                    type="filepath",
                    image_mode=None,
                    height=260,
                    buttons=[],
                )
                # As it was uploaded: the pipeline decodes it as the model's training did, and says what is wrong.
                picture.preprocess = lambda payload: payload  # type: ignore[assignment, method-assign, return-value]
                checkpoint = gr.Dropdown(checkpoints, value=checkpoints[0], label="Checkpoint", filterable=False)
                explanation = gr.Radio(
                    ["none", "attention", "occlusion"],
                    value="none",
                    label="Which crop spoke",
                    info="Boxes get lines as wide as their share. Occlusion is slower, and to be trusted more.",
                )
                with gr.Accordion("Boxes to look at", open=False):
                    boxes = gr.Textbox(
                        label="Boxes as JSON",
                        info="(xmin, ymin, xmax, ymax) in pixels of the picture. "
                        + (
                            "Without any, detectors find some."
                            if taggers.detectors
                            else "Without any, the whole picture is looked at."
                        ),
                        placeholder='[[20, 20, 90, 90]] or {"aux_crops": [...], "rcnn_crops": [...]}',
                        lines=2,
                    )
                button = gr.Button("Find entities", variant="primary")
            with gr.Column(min_width=300):
                shown = gr.HTML(
                    NOTHING_YET,
                    label="Entities",
                    show_label=True,
                    container=True,
                    padding=True,
                    elem_classes="tagged",
                    html_template='<div role="status">${value}</div>',
                    js_on_load=None,
                )
                report = gr.JSON(label="JSON", open=True)
        if examples:
            # Not gr.Examples, which makes components anew, without the `preprocess` above.
            table = gr.Dataset(
                components=[text, picture],
                samples=[example[:2] for example in examples],
                type="index",
                label="Examples",
            )
            table.click(
                lambda index: examples[index], table, [text, picture, boxes], queue=False, api_visibility="private"
            )
        # Boxes are of one picture: a visitor's own one does not keep those of an example.
        gr.on([picture.upload, picture.clear], lambda: "", None, boxes, queue=False, api_visibility="private")
        gr.on(
            [button.click, text.submit],
            taggers.tag,
            [text, picture, boxes, checkpoint, explanation],
            [shown, report],
            api_name="tag",
        )
    return page.queue(max_size=max_waiting, default_concurrency_limit=1)


def serve(page: gr.Blocks, **options: Any) -> tuple[Any, str, str]:
    """Start it; on the port of GRADIO_SERVER_PORT, or the first free one from 7860 on."""
    return page.launch(
        max_file_size=MAX_MEGABYTES * 10**6, theme=THEME, css=STYLE, ssr_mode=False, footer_links=["api"], **options
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", help="checkpoints to choose from: Hub names or folders")
    names = checkpoint_names(parser.parse_args().model)
    variables = {"aux_detector": "AUX_DETECTOR", "rcnn_detector": "RCNN_DETECTOR"}
    detectors = {option: os.environ[name] for option, name in variables.items() if os.environ.get(name)}
    serve(build(names, read_examples(), Taggers(detectors, os.environ.get("RELATION_MODEL") or None)))


if __name__ == "__main__":
    main()
