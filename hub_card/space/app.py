"""
The page of a Space: a tweet and its picture go in, its entities come out, and relations.

    python app.py --model user/name
    python app.py --model runs/demo runs/other --relation_model runs/demo_re

Without `--model`, the checkpoints are those of the variable CHECKPOINTS (with spaces or commas between), else those
that README.md names as `models`. `--relation_model`, the variable RELATION_MODEL, or `relation_model` in README.md
names a relation model, which finds the relations between the entities, on pictures of the same sizes, and has a tab
where two are named. AUX_DETECTOR and RCNN_DETECTOR name detectors of transformers that find crops where a tweet brings
none. Only the libraries of requirements.txt are needed: the model brings its own code.
"""

import argparse
import html
import json
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from huggingface_hub import SpaceCard
from starlette.middleware import Middleware
from transformers import pipeline
from visitors import (
    KEPT_SECONDS,
    MAX_MEGABYTES,
    MAX_WAITING,
    Gate,
    Refused,
    check_text,
    label_of,
    read_boxes,
    read_upload,
    time_limit,
)


logger = logging.getLogger(__name__)

HERE = Path(__file__).absolute().parent  # not resolved: in the Hub's cache this file is a link
MAX_SESSIONS = 200  # whose settings gradio keeps
MAX_EXPLAINED = 12  # entities, each with a picture of its own

ENTITY_TASK, RELATION_TASK = "multimodal-token-classification", "multimodal-relation-extraction"

INTRODUCTION = """
# Entities{} in a tweet and its picture
Type a tweet, add its picture if it has one, and see which persons, places, organisations and other names are in it{}.
"""
WITH_RELATIONS = (" and relations", ", and how they are related; or name two of them yourself")
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
PALE = ("body_text_color_subdued", "block_info_text_color", "input_placeholder_color")
THEME = gr.themes.Default().set(
    **dict.fromkeys(PALE, "*neutral_600"), **dict.fromkeys([f"{name}_dark" for name in PALE], "*neutral_300")
)


def checkpoint_names(given: list[str] | None = None) -> list[str]:
    """Hub names or folders of the checkpoints to choose from, see the head of this file."""
    of_card = [name for name in read_card().get("models") or [] if name != relation_model_name()]
    names = given or os.environ.get("CHECKPOINTS", "").replace(",", " ").split() or of_card
    if not names:
        raise SystemExit(
            "No checkpoint is named: --model NAME, CHECKPOINTS=NAME, or `models` at the head of README.md."
        )
    return names


def offered(checkpoints: list[str]) -> dict[str, str]:
    """Checkpoints by the names that visitors see: of a folder the last part, with a number where two are alike."""
    names: dict[str, str] = {}
    for checkpoint in checkpoints:
        short = Path(os.path.abspath(checkpoint)).name if Path(checkpoint).is_dir() else checkpoint
        name, number = short, 1
        while name in names:
            number += 1
            name = f"{short} ({number})"
        names[name] = checkpoint
    return names


def relation_model_name(given: str | None = None) -> str | None:
    """Hub name or folder of the relation model, see the head of this file; None where there is none."""
    return given or os.environ.get("RELATION_MODEL") or read_card().get("relation_model")


def read_card() -> dict[str, Any]:
    """The metadata of README.md; none where there is no such file."""
    path = HERE / "README.md"
    return SpaceCard.load(path).data.to_dict() if path.exists() else {}


def read_examples(folder: Path = HERE / "examples") -> list[list[str | None]]:
    """Text, path of the picture and boxes of each example; none where the folder is not there."""
    path = folder / "examples.json"
    return [
        [of["text"], of["image"] and str(folder / of["image"]), json.dumps(of["crops"]) if of["crops"] else ""]
        for of in (json.loads(path.read_text(encoding="utf-8")) if path.exists() else ())
    ]


def error(message: str) -> gr.Error:
    """Shown on the page, which would take markup in it."""
    return gr.Error(html.escape(message), print_exception=False)


class Taggers:
    """
    Pipelines by the name of their checkpoint, each loaded once, when it is first asked for: the page does so for one
    visitor at a time.

    Args:
        detectors: by the pipeline's option, `aux_detector` and `rcnn_detector`.
        relation_model: the relation model, which finds relations between the entities.
    """

    def __init__(self, detectors: dict[str, str], relation_model: str | None = None):
        self.detectors, self.relation_model = detectors, relation_model
        self._loaded: dict[tuple[str, str], Any] = {}

    def load(self, name: str, task: str = ENTITY_TASK) -> Any:
        """The pipeline of a checkpoint; a gr.Error tells of one that does not load."""
        if (name, task) not in self._loaded:
            options: dict[str, Any] = dict(self.detectors)
            if task == ENTITY_TASK and self.relation_model is not None:
                options["relation_extractor"] = self.load(self.relation_model, RELATION_TASK)
            try:
                loaded = pipeline(  # type: ignore[call-overload]  # knows the library's own tasks
                    task, model=name, trust_remote_code=True, **options
                )
                if not hasattr(loaded.processor, "max_megapixels"):
                    raise ValueError(
                        "Its code is older than the limit of pictures. Load it with a newer IFAformer and save it."
                    )
                self._loaded[name, task] = loaded
            except (OSError, ValueError) as reason:
                logger.exception("%s does not load", name)
                raise error("This checkpoint does not load. The log of this page's server says why.") from reason
        return self._loaded[name, task]

    def tag(
        self, text: str | None, picture: Any, boxes: str | None, checkpoint: str, explanation: str
    ) -> tuple[str, dict[str, Any]]:
        """
        HTML and the pipeline's report of the entities, for what the visitor gave, see [`read_row`]. `explanation` is
        "none", or what the pipeline takes as `explain`.
        """
        row = read_row(text, picture, boxes)
        return answer_of(self.load(checkpoint), row, explain=None if explanation == "none" else explanation)

    def relate(
        self, text: str | None, picture: Any, boxes: str | None, checkpoint: str, head: str | None, tail: str | None
    ) -> tuple[str, dict[str, Any]]:
        """HTML and the pipeline's report of the relation between two entities, as they stand in the text."""
        row = read_row(text, picture, boxes, head=head or "", tail=tail or "")
        return answer_of(self.load(checkpoint, RELATION_TASK), row)


def read_row(text: str | None, picture: Any, boxes: str | None, **words: str) -> dict[str, Any]:
    """
    A row as the pipelines take it. None is what the visitor never wrote.

    Args:
        picture: gradio's `ImageData` of an upload.
        boxes: JSON, see [`read_boxes`].
        words: further columns, which are parts of the text.

    Raises:
        gr.Error: for what is above the limits, and for a picture or boxes that are none.
    """
    try:
        row: dict[str, Any] = {"text": check_text(text or "", "text"), "image": None}
        row |= {name: check_text(value, name) for name, value in words.items()}
        if picture is not None:
            if picture.path is None:
                raise Refused("The picture came without a file: upload it.")
            name = picture.orig_name or Path(picture.path).name
            row["image"] = {"path": label_of(name), "bytes": read_upload(picture.path)}
        if boxes and boxes.strip():
            row["crops"] = read_boxes(boxes)
    except Refused as reason:
        raise error(str(reason)) from None
    return row


def answer_of(model: Any, row: dict[str, Any], **options: Any) -> tuple[str, dict[str, Any]]:
    """What a pipeline says of a row, as HTML and as its report; problems are told on the page besides."""
    try:
        with time_limit():
            result = model(row, on_error="report", **options)
    except Refused as reason:
        raise error(str(reason)) from None
    except (OSError, ValueError) as reason:  # of the detectors: all else is reported
        logger.exception("not answered")
        raise error("The detectors of this page do not work. The log of its server says why.") from reason
    explained = [entity for entity in result.get("entities", []) if "shares" in entity]
    if len(explained) > MAX_EXPLAINED:
        gr.Warning(f"The picture is shown once for each entity: only the first {MAX_EXPLAINED} are explained.")
    for entity in explained[MAX_EXPLAINED:]:
        del entity["shares"]
    for problem in result.get("problems", []):
        gr.Warning(html.escape(problem))
    return result._repr_html_(), dict(result)


def build(
    checkpoints: list[str], examples: list[list[str | None]], taggers: Taggers, max_waiting: int = MAX_WAITING
) -> gr.Blocks:
    """The page; with a tab for relations where the taggers have a relation model."""
    relation_model = taggers.relation_model
    with gr.Blocks(title="Entities in a tweet", delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown(INTRODUCTION.format(*WITH_RELATIONS if relation_model else ("", "")))
        if relation_model is None:
            entity_form(checkpoints, examples, taggers)
        else:
            with gr.Tabs():
                with gr.Tab("Entities"):
                    entity_form(checkpoints, examples, taggers)
                with gr.Tab("Relations"):
                    form([relation_model], taggers, taggers.relate, pair_fields, "Find the relation", "Relation")
    # api_open: gradio's second way to a function, past the queue
    return page.queue(max_size=max_waiting, default_concurrency_limit=1, api_open=False)


def entity_form(checkpoints: list[str], examples: list[list[str | None]], taggers: Taggers) -> None:
    """What stands on the page for entities, and the examples."""
    text, picture, boxes = form(checkpoints, taggers, taggers.tag, explanation_fields, "Find entities", "Entities")
    if examples:
        # Not gr.Examples, which makes components anew, without the `preprocess` of the picture.
        samples = [example[:2] for example in examples]
        table = gr.Dataset(components=[text, picture], samples=samples, type="index", label="Examples")
        fields = [text, picture, boxes]
        table.click(lambda index: examples[index], table, fields, queue=False, api_visibility="private")


def form(
    checkpoints: list[str],
    taggers: Taggers,
    answer: Callable[..., tuple[str, dict[str, Any]]],
    own_fields: Callable[[], list[Any]],
    action: str,
    result: str,
) -> tuple[gr.Textbox, gr.Image, gr.Textbox]:
    """
    Left what goes in, right what comes out; the fields of text, picture and boxes.

    Args:
        answer: takes text, picture, boxes and checkpoint, and the values of its own fields; named endpoint of the API.
        own_fields: makes those fields.
        action, result: labels of the button and of what comes out.
    """
    names = offered(checkpoints)
    without = "detectors find some" if taggers.detectors else "the whole picture is looked at"
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
            checkpoint = gr.Dropdown(list(names), value=next(iter(names)), label="Checkpoint", filterable=False)
            # gradio takes no choice and a list of them too.
            checkpoint.preprocess = partial(one_of, names)  # type: ignore[method-assign]
            own = own_fields()
            with gr.Accordion("Boxes to look at", open=False):
                boxes = gr.Textbox(
                    label="Boxes as JSON",
                    info=f"(xmin, ymin, xmax, ymax) in pixels of the picture. Without any, {without}.",
                    placeholder='[[20, 20, 90, 90]] or {"aux_crops": [...], "rcnn_crops": [...]}',
                    lines=2,
                )
            button = gr.Button(action, variant="primary")
        with gr.Column(min_width=300):
            shown = gr.HTML(
                NOTHING_YET,
                label=result,
                show_label=True,
                container=True,
                padding=True,
                elem_classes="tagged",
                html_template='<div role="status">${value}</div>',
                js_on_load=None,
            )
            report = gr.JSON(label="JSON", open=True)
    # Boxes are of one picture: a visitor's own one does not keep those of an example.
    gr.on([picture.upload, picture.clear], lambda: "", None, boxes, queue=False, api_visibility="private")
    gr.on(
        [button.click, *(field.submit for field in (text, *own) if isinstance(field, gr.Textbox))],
        answer,
        [text, picture, boxes, checkpoint, *own],
        [shown, report],
        api_name=answer.__name__,
        concurrency_id="pipelines",  # one at a time of both tabs
    )
    return text, picture, boxes


def one_of(checkpoints: dict[str, str], chosen: Any) -> str:
    """The checkpoint that a visitor chose; what the page does not offer is never loaded, since its code would run."""
    if not isinstance(chosen, str) or chosen not in checkpoints:
        raise error("The checkpoint is none of those that this page offers.")
    return checkpoints[chosen]


def explanation_fields() -> list[Any]:
    return [
        gr.Radio(
            ["none", "attention", "occlusion"],
            value="none",
            label="Which crop spoke",
            info="Boxes get lines as wide as their share. Occlusion is slower, and to be trusted more.",
        )
    ]


def pair_fields() -> list[Any]:
    info = "As it stands in the tweet, where it occurs once."
    with gr.Row():
        return [gr.Textbox(label=label, info=info) for label in ("Head", "Tail")]


def serve(page: gr.Blocks, **options: Any) -> tuple[Any, str, str]:
    """Start it; on the port of GRADIO_SERVER_PORT, or the first free one from 7860 on."""
    return page.launch(
        max_file_size=MAX_MEGABYTES * 10**6,
        state_session_capacity=MAX_SESSIONS,
        app_kwargs={"middleware": [Middleware(Gate, page=page)]},
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        theme=THEME,
        css=STYLE,
        ssr_mode=False,
        footer_links=["api"],
        **options,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", help="The models to choose from, by name on the Hub or by folder.")
    parser.add_argument("--relation_model", help="The relation model, by name on the Hub or by folder.")
    given = parser.parse_args()
    names = checkpoint_names(given.model)
    if os.environ.get("SPACE_ID"):  # The Hub's proxies, in its own network, tell which visitor they speak for.
        os.environ.setdefault("FORWARDED_ALLOW_IPS", "127.0.0.1,10.0.0.0/8")
    variables = {"aux_detector": "AUX_DETECTOR", "rcnn_detector": "RCNN_DETECTOR"}
    detectors = {option: os.environ[name] for option, name in variables.items() if os.environ.get(name)}
    serve(build(names, read_examples(), Taggers(detectors, relation_model_name(given.relation_model))))


if __name__ == "__main__":
    main()
