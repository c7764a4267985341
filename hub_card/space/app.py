"""
The page of a Space: a tweet and its picture go in, its entities come out, and relations.

    python app.py --model user/name
    python app.py --model runs/demo runs/other --relation_model runs/demo_re

Without `--model`, the checkpoints are those of the variable CHECKPOINTS (with spaces or commas between), else those
that README.md names as `models`. `--relation_model`, the variable RELATION_MODEL, or `relation_model` in README.md
names a relation model, which finds the relations between the entities, on pictures of the same sizes, and has a tab
where two are named. AUX_DETECTOR and RCNN_DETECTOR name detectors of transformers that find crops where a tweet brings
none. Only the libraries of requirements.txt are needed: the model brings its own code. On ZeroGPU, which brings the
package `spaces`, models are loaded at the start, and answers are computed where there is a GPU.
"""

import argparse
import html
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any


os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

try:
    import spaces  # of a Space on ZeroGPU; it has to come before torch
except ImportError:
    spaces = None
import gradio as gr
from huggingface_hub import SpaceCard
from limits import MAX_MEGABYTES, MAX_PICTURES, Refused, check_text, label_of, read_boxes
from starlette.middleware import Middleware
from transformers import PreTrainedConfig, pipeline
from visitors import KEPT_SECONDS, MAX_SECONDS, MAX_WAITING, Gate, read_upload, time_limit


logger = logging.getLogger(__name__)

HERE = Path(__file__).absolute().parent  # not resolved: in the Hub's cache this file is a link
MAX_SESSIONS = 200  # whose settings gradio keeps
GPU_SECONDS = MAX_SECONDS + 10  # of a GPU for an answer: the work, and moving the models

ENTITY_TASK, RELATION_TASK = "multimodal-token-classification", "multimodal-relation-extraction"

INTRODUCTION = """
# Names{} in a tweet and its picture
Type a tweet and add its picture, and see which persons, places, organisations and other names are in it{}. Or click an
example.
"""
WITH_RELATIONS = (" and relations", ", and how they are related")
ABOUT_EXAMPLES = (
    "The examples are made up, and their pictures are drawn. A model that learned from such data alone (`make demo`) "
    "knows drawn pictures and some hundred names, and is of no use on real tweets."
)
EXPLANATIONS = [
    ("the parts without which the answer is less certain (occlusion)", "occlusion"),
    ("where its attention went (quicker, and says less)", "attention"),
    ("do not show", "none"),
]
FOUND_BY_DETECTORS = "Parts of the picture are found by detectors."
WHOLE_PICTURE = "This page has no detector. The examples bring their parts; your own picture is looked at as a whole."

NOTHING_YET = '<p class="waiting">The result comes here.</p>'
# What a visitor changes makes the result that is shown one of something else.
CLEAR_RESULT = f"() => [{json.dumps(NOTHING_YET)}, null]"
# An answer that comes when the text has changed is not shown. On a phone a result lies below what can be seen.
SHOW_RESULT = f"""(text, shown, report) => {{
    if (typeof report?.text === "string" && report.text !== text) return [{json.dumps(NOTHING_YET)}, null];
    const result = document.querySelector(".tagged"), {{top}} = result.getBoundingClientRect();
    if (top < 0 || top > 0.5 * window.innerHeight) result.scrollIntoView();
    return [shown, report];
}}"""

# What is here is about the page; the result brings its own style, and follows the light or dark colours of the page.
STYLE = """
.tagged { scroll-margin-top: .5rem; font-size: 1rem; }
.tagged [role="status"] { padding-top: 1.2rem; }  /* clear of the label */
.tagged .waiting { color: var(--body-text-color-subdued); }
textarea { unicode-bidi: plaintext; }  /* Arabic and Hebrew are aligned to the right */
/* gradio's is orange on white */
button[role="tab"][aria-selected="true"] { color: var(--body-text-color) !important; font-weight: 600; }
"""


def _theme() -> gr.themes.Base:
    """Default has grey and orange that are too light to be read by everybody (WCAG 2.1, 1.4.3: 4.5 to 1)."""
    pale = ("body_text_color_subdued", "block_info_text_color", "input_placeholder_color", "block_label_text_color")
    fills = (
        "button_primary_background_fill",
        "button_primary_background_fill_hover",
        "checkbox_background_color_selected",
    )
    colours = dict.fromkeys(pale, "*neutral_600") | dict.fromkeys([f"{name}_dark" for name in pale], "*neutral_300")
    colours |= dict.fromkeys([name + mode for name in fills for mode in ("", "_dark")], "#b83a05")
    return gr.themes.Default().set(**colours)


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


def is_exported(name: str) -> bool:
    """Whether it is the folder of a model that scripts/export.py has written."""
    return Path(name, "export.json").is_file()


def relation_model_name(given: str | None = None) -> str | None:
    """Hub name or folder of the relation model, see the head of this file; None where there is none."""
    return given or os.environ.get("RELATION_MODEL") or read_card().get("relation_model")


def read_card() -> dict[str, Any]:
    """The metadata of README.md; none where there is no such file."""
    path = HERE / "README.md"
    return SpaceCard.load(path).data.to_dict() if path.exists() else {}


def read_examples() -> list[dict[str, Any]]:
    """
    The examples: `text`, `image` (path of the picture, or None), `boxes` (JSON), and of one for relations `head` and
    `tail`. None where the folder is not there.
    """
    folder = HERE / "examples"
    path = folder / "examples.json"
    read = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return [
        {
            **{name: of[name] for name in ("text", "head", "tail") if name in of},
            "image": of["image"] and str(folder / of["image"]),
            "boxes": json.dumps(of["crops"]) if of["crops"] else "",
        }
        for of in read
    ]


def on_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """What does the same where ZeroGPU lends a GPU; elsewhere the function itself."""
    return function if spaces is None else spaces.GPU(duration=GPU_SECONDS)(function)


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
        self.answer = on_gpu(self._answer)

    @property
    def is_on_zero_gpu(self) -> bool:
        return self.answer != self._answer

    def load_all(self, names: Sequence[str]) -> None:
        """Load these, and with them the relation model. One that fails is told of when it is used."""
        for name in names:
            with suppress(gr.Error):
                self.load(name)

    def _answer(self, name: str, task: str, row: dict[str, Any], explain: str | None = None) -> Any:
        """
        See [`answer_of`]. On ZeroGPU this runs in a process with a GPU that was forked when models were loaded: only
        names and rows go there.
        """
        options = {} if explain is None else {"explain": explain}
        return answer_of(self.load(name, task), row, **options)

    def load(self, name: str, task: str = ENTITY_TASK) -> Any:
        """The pipeline of a checkpoint; a gr.Error tells of one that does not load."""
        if (name, task) not in self._loaded:
            options: dict[str, Any] = dict(self.detectors)
            if task == ENTITY_TASK and self.relation_model is not None:
                options["relation_extractor"] = self.load(self.relation_model, RELATION_TASK)
            try:
                if is_exported(name):
                    from processing.exported import load_exported  # which needs the project

                    loaded = load_exported(name, **options)
                else:
                    loaded = pipeline(  # type: ignore[call-overload]  # knows the library's own tasks
                        task, model=name, trust_remote_code=True, **options
                    )
                if not hasattr(loaded.processor, "max_megapixels"):
                    raise ValueError(
                        "Its code is older than the limit of pictures. Load it with a newer IFAformer and save it."
                    )
                self._loaded[name, task] = loaded
            except (ImportError, OSError, ValueError) as reason:
                logger.exception("%s does not load", name)
                raise error("This checkpoint does not load. The log of this page's server says why.") from reason
        return self._loaded[name, task]

    def tag(
        self, text: str | None, picture: Any, boxes: str | None, checkpoint: str, explanation: str, *others: Any
    ) -> tuple[str, dict[str, Any]]:
        """
        HTML and the pipeline's report of the entities, for what the visitor gave, see [`read_row`]. `explanation` is
        "none", or what the pipeline takes as `explain`; `others` are more pictures.
        """
        row, model = read_row(text, [picture, *others], boxes), self.load(checkpoint)
        if explanation != "none" and is_exported(checkpoint):
            raise error("An exported model cannot say what spoke for a name. Choose another setting.")
        # Baselines have no variant, exported models are not asked.
        variant = None if is_exported(checkpoint) else getattr(model.model.config, "attention_variant", None)
        if explanation == "attention" and variant in (None, "mkgformer"):
            raise error("The attention of this model cannot be shown. Choose another setting.")
        return self.answer(checkpoint, ENTITY_TASK, row, None if explanation == "none" else explanation)

    def relate(
        self, text: str | None, picture: Any, boxes: str | None, head: str | None, tail: str | None, *others: Any
    ) -> tuple[str, dict[str, Any]]:
        """HTML and the pipeline's report of the relation between two entities, as they stand in the text."""
        row = read_row(text, [picture, *others], boxes, head=head or "", tail=tail or "")
        return self.answer(str(self.relation_model), RELATION_TASK, row)


def read_row(text: str | None, pictures: Sequence[Any], boxes: str | None, **words: str) -> dict[str, Any]:
    """
    A row as the pipelines take it. None is what the visitor never wrote.

    Args:
        pictures: gradio's `ImageData` of each upload, None where there is none.
        boxes: JSON, see [`read_boxes`].
        words: further columns, which are parts of the text.

    Raises:
        gr.Error: for what is above the limits, and for a picture or boxes that are none.
    """
    try:
        row: dict[str, Any] = {"text": check_text(text or "", "text"), "image": None}
        row |= {name: check_text(value, name) for name, value in words.items()}
        images = []
        for picture in pictures:
            if picture is None:
                continue
            if picture.path is None:
                raise Refused("The picture came without a file: upload it.")
            name = picture.orig_name or Path(picture.path).name
            images.append({"path": label_of(name), "bytes": read_upload(picture.path)})
        if images:
            row["image"] = images[0] if len(images) == 1 else images
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
    for problem in result.get("problems", []):
        gr.Warning(html.escape(problem))
    return result._repr_html_(), dict(result)


def build(checkpoints: list[str], examples: list[dict[str, Any]], taggers: Taggers) -> gr.Blocks:
    """
    The page: left what goes in, right what comes out. With a relation model among the taggers, text and picture are
    asked about in two ways, each with a tab of its own. Where a model takes several pictures, there are fields for
    them.
    """
    names, relation_model = offered(checkpoints), taggers.relation_model
    with gr.Blocks(title="Names in a tweet", delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown(INTRODUCTION.format(*WITH_RELATIONS if relation_model else ("", "")))
        with gr.Row():
            with gr.Column(min_width=300):
                text, picture, boxes = tweet_fields()
                others = more_pictures(most_pictures([*checkpoints, relation_model]) - 1)
                given, pair = [text, picture, boxes], [example for example in examples if "head" in example]
                with gr.Tabs() if relation_model else nullcontext():
                    with gr.Tab("Names") if relation_model else nullcontext():
                        button = gr.Button("Find the names", variant="primary")
                        settings = entity_settings(names, taggers)
                        plain = [example for example in examples if "head" not in example]
                        of_names = example_table(plain, given, others)
                    if relation_model:
                        with gr.Tab("Relation of two names"):
                            head, tail = pair_fields()
                            relate = gr.Button("Find the relation", variant="primary")
                            of_pairs = example_table(pair, [*given, head, tail], others)
                if examples:
                    gr.Markdown(ABOUT_EXAMPLES)
            with gr.Column(min_width=300):
                shown, report = result_fields()
        answering: dict[str, Any] = {"outputs": [shown, report], "concurrency_id": "pipelines"}  # one at a time
        run(taggers.tag, [button.click, text.submit], of_names[1], [*given, *settings, *others], answering)
        uploaded = [event for field in (picture, *others) for event in (field.upload, field.clear)]
        changed = [text.change, *uploaded]  # `input` says nothing of what is pasted
        changed += [of_names[0].click] if of_names[0] else []
        if relation_model:
            triggers = [relate.click, head.submit, tail.submit]
            run(taggers.relate, triggers, of_pairs[1], [*given, head, tail, *others], answering)
            changed += [head.input, tail.input, *([of_pairs[0].click] if of_pairs[0] else [])]
        gr.on(changed, None, None, [shown, report], js=CLEAR_RESULT, queue=False, api_visibility="private")
        # Boxes are of one picture: a visitor's own one does not keep those of an example.
        forget = {"js": '() => ""', "queue": False, "api_visibility": "private"}
        gr.on(uploaded, None, None, boxes, **forget)
    # api_open: gradio's second way to a function, past the queue
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)


def tweet_fields() -> tuple[gr.Textbox, gr.Image, gr.Textbox]:
    """Text and picture, and the boxes of an example, which the API takes too."""
    text = gr.Textbox(label="Tweet", lines=2, placeholder="so Phoenix is all over my timeline")
    picture = picture_field(f"Picture, of up to {MAX_MEGABYTES} MB")
    return text, picture, gr.Textbox(label="Boxes", visible=False)


def picture_field(label: str) -> gr.Image:
    picture = gr.Image(
        label=label,
        placeholder="Drop an image file here to upload",  # as gradio has it read out
        sources=["upload", "clipboard"],
        type="filepath",
        image_mode=None,
        height=220,
        buttons=[],
    )
    # As it was uploaded: the pipeline decodes it as the model's training did, and says what is wrong.
    picture.preprocess = lambda payload: payload  # type: ignore[assignment, method-assign, return-value]
    return picture


def most_pictures(checkpoints: Sequence[str | None]) -> int:
    """How many pictures of a tweet the models take at most, as their configurations say; their code is not run."""
    numbers = []
    for name in checkpoints:
        try:
            numbers.append(PreTrainedConfig.get_config_dict(name)[0].get("max_images", 1) if name else 1)
        except OSError:  # of which loading the model tells
            numbers.append(1)
    return min(max(numbers, default=1), MAX_PICTURES)


def more_pictures(number: int) -> list[gr.Image]:
    """Fields for so many pictures beside the first one."""
    if number < 1:
        return []
    with gr.Accordion("More pictures of the tweet", open=False):
        return [picture_field(f"Picture {place}") for place in range(2, number + 2)]


def entity_settings(names: dict[str, str], taggers: Taggers) -> tuple[gr.Dropdown, gr.Radio]:
    """The checkpoint, which is chosen where there are several, and what is shown of its reasons."""
    with gr.Accordion("Settings", open=False):
        checkpoint = gr.Dropdown(
            list(names), value=next(iter(names)), label="Model", filterable=False, visible=len(names) > 1
        )
        # gradio takes no choice and a list of them too.
        checkpoint.preprocess = partial(one_of, names)  # type: ignore[method-assign]
        explanation = gr.Radio(
            EXPLANATIONS,
            value="occlusion",
            label="What did the model look at?",
            info=FOUND_BY_DETECTORS if taggers.detectors else WHOLE_PICTURE,
        )
    return checkpoint, explanation


def pair_fields() -> list[gr.Textbox]:
    info = "One of the two names, as it stands in the tweet, where it occurs once."
    with gr.Row():
        return [gr.Textbox(label=label, info=info, min_width=140) for label in ("Head", "Tail")]


def example_table(examples: list[dict[str, Any]], fields: list[Any], others: list[Any]) -> tuple[Any, Any]:
    """
    A table of examples, and the event of one being put into the fields by a click, which empties the `others`; None
    without any.
    """
    if not examples:
        return None, None
    columns = ["text", "image", "boxes", "head", "tail"]
    # Not gr.Examples, which makes components anew, without the `preprocess` of the picture.
    table = gr.Dataset(
        components=fields[:2],
        samples=[[example["text"], example["image"]] for example in examples],
        headers=["Tweet", "Picture"],
        type="index",
        label="Examples",
        elem_classes="examples",
    )

    def chosen(index: int) -> list[str | None]:
        return [*(examples[index][column] for column in columns[: len(fields)]), *[None] * len(others)]

    return table, table.click(chosen, table, [*fields, *others], queue=False, api_visibility="private")


def result_fields() -> tuple[gr.HTML, gr.JSON]:
    """The result, and below it the same as JSON."""
    shown = gr.HTML(
        NOTHING_YET,
        label="Result",
        show_label=True,
        container=True,
        padding=True,
        elem_classes="tagged",
        html_template='<div role="status">${value}</div>',
        js_on_load=None,
    )
    with gr.Accordion("The same as JSON", open=False):
        report = gr.JSON(label="JSON", open=True)
    return shown, report


def run(
    answer: Callable[..., Any], triggers: list[Any], example: Any, inputs: list[Any], answering: dict[str, Any]
) -> None:
    """Let the triggers, and the example that was put into the fields, ask for the answer; it then comes into view."""
    name, answer = answer.__name__, with_names(answer, len(inputs))
    asked = [gr.on(triggers, answer, inputs, api_name=name, **answering)]
    if example is not None:
        asked.append(example.then(answer, inputs=inputs, api_visibility="private", **answering))
    for event in asked:
        outputs = answering["outputs"]
        event.success(None, [inputs[0], *outputs], outputs, js=SHOW_RESULT, queue=False, api_visibility="private")


def with_names(answer: Callable[..., Any], number: int) -> Callable[..., Any]:
    """The same function of so many arguments; the API names the pictures beside the first, and needs none of them."""

    def call(*arguments: Any) -> Any:
        return answer(*arguments)

    own = list(signature(answer).parameters.values())[:-1]
    form = Parameter.POSITIONAL_OR_KEYWORD
    more = [Parameter(f"picture_{place + 2}", form, default=None) for place in range(number - len(own))]
    call.__signature__ = Signature([*own, *more])  # type: ignore[attr-defined]
    return call


def one_of(checkpoints: dict[str, str], chosen: Any) -> str:
    """The checkpoint that a visitor chose; what the page does not offer is never loaded, since its code would run."""
    if not isinstance(chosen, str) or chosen not in checkpoints:
        raise error("The checkpoint is none of those that this page offers.")
    return checkpoints[chosen]


def serve(page: gr.Blocks, **options: Any) -> tuple[Any, str, str]:
    """Start it; on the port of GRADIO_SERVER_PORT, or the first free one from 7860 on."""
    return page.launch(
        max_file_size=MAX_MEGABYTES * 10**6,
        state_session_capacity=MAX_SESSIONS,
        app_kwargs={"middleware": [Middleware(Gate, page=page)]},
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        theme=_theme(),
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
    taggers = Taggers(detectors, relation_model_name(given.relation_model))
    if taggers.is_on_zero_gpu:
        taggers.load_all(names)
    serve(build(names, read_examples(), taggers))


if __name__ == "__main__":
    main()
