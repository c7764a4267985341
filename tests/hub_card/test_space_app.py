"""The Space's page without a browser: its function, its choices, its queue."""

import ast
import json
import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from PIL import Image

from hub_card.sharing.space_folder import PAGE_FILES
from hub_card.space_card import SpaceFacts, space_card
from modeling_ifaformer import IFAformerForTokenClassification
from processing.images import UNKNOWN_FORMAT


gr = pytest.importorskip("gradio", reason="gradio is not installed (pip install -e .[space])")
from gradio.data_classes import ImageData  # noqa: E402
from gradio_client import Client, handle_file  # noqa: E402


@pytest.fixture(scope="module")
def taggers(space_app):
    return space_app.Taggers({})


@pytest.fixture
def upload(uploads):
    """A file as gradio hands it over."""

    def make(content, name="photo.png"):
        path = uploads / "upload"
        if isinstance(content, Image.Image):
            content.save(path, format="PNG")
        else:
            path.write_bytes(content)
        return ImageData(path=str(path), orig_name=name)

    return make


def test_the_page_needs_no_package_of_ours(repository):
    ours = {"modeling_ifaformer", "processing", "hub_card", "scripts"}
    for name in [name for name in PAGE_FILES if name.endswith(".py")]:
        path = repository / "hub_card" / PAGE_FILES[name] / name
        source = ast.parse(path.read_text(encoding="utf-8"))
        names = {alias.name for node in ast.walk(source) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in ast.walk(source) if isinstance(node, ast.ImportFrom)}
        # which is imported where an exported model is loaded: that one has no code of its own
        assert not {name.split(".")[0] for name in names - {"processing.exported"}} & ours
        assert all(getattr(node, "module", None) != "processing.exported" for node in source.body)


def test_what_the_pipeline_says_is_shown(taggers, checkpoint, upload):
    picture = Image.linear_gradient("L").convert("RGB").resize((40, 30))
    text, boxes = "Jordan met Paris in New York City .", {"aux_crops": [[0, 0, 9, 9]], "rcnn_crops": [[5, 5, 20, 20]]}
    html, report = taggers.tag(text, upload(picture), json.dumps(boxes), checkpoint, "occlusion")
    expected = taggers.load(checkpoint)(
        {"text": text, "image": picture, "crops": boxes}, on_error="report", explain="occlusion"
    )
    assert report == expected and html == expected._repr_html_() and "<svg" in html
    assert report["entities"] and {len(entity["shares"]) for entity in report["entities"]} == {4}
    json.dumps(report)
    for nothing in (None, "", " \n"):
        plain = taggers.tag(text, None, nothing, checkpoint, "none")[1]
        assert set(plain) == {"text", "entities"} and "shares" not in plain["entities"][0]


def test_an_exported_model_is_asked_like_any_other(space_app, exported, exported_relations, upload):
    taggers = space_app.Taggers({}, exported_relations)
    picture, text = Image.linear_gradient("L").convert("RGB"), "Jordan met Paris in New York City ."
    html, report = taggers.tag(text, upload(picture), "", exported, "none")
    assert report == taggers.load(exported)({"text": text, "image": picture}, on_error="report")
    assert report["entities"] and "relations" in report and "<svg" in html
    assert taggers.relate(text, upload(picture), "", "Jordan", "Paris")[1]["relation"]
    with pytest.raises(gr.Error, match="cannot say what spoke for a name"):
        taggers.tag(text, upload(picture), "", exported, "attention")


def test_work_for_one_visitor_is_bounded(taggers, checkpoint, upload, monkeypatch, visitors):
    given = ("Jordan met Paris in New York City .", upload(Image.new("RGB", (40, 30))), "", checkpoint, "attention")
    html, report = taggers.tag(*given)
    assert len(report["entities"]) > 1 and all("shares" in entity for entity in report["entities"])
    assert html.count("<image ") == 1, "one picture for all names"
    large = upload(Image.new("RGB", (5001, 5000)))
    assert "at most 25 megapixels" in taggers.tag("Jordan", large, "", checkpoint, "none")[1]["problems"][0]
    monkeypatch.setattr(visitors, "MAX_SECONDS", 0)
    with pytest.raises(gr.Error, match="took longer than 0 seconds and was ended"):
        taggers.tag(*given)


def test_a_picture_that_is_none_is_told_by_its_name(taggers, checkpoint, upload, monkeypatch, space_app):
    told = []
    monkeypatch.setattr(space_app.gr, "Warning", told.append)
    html, report = taggers.tag("Jordan met Paris", upload(b"no picture", "<b>my</b>.png"), None, checkpoint, "none")
    problem = f"image: {UNKNOWN_FORMAT} (<b>my</b>.png)"
    assert report["problems"] == [problem] and report["entities"], "the text is tagged all the same"
    escaped = problem.replace("<", "&lt;").replace(">", "&gt;")
    assert told == [escaped] and escaped in html
    assert taggers.tag("", None, None, checkpoint, "none")[1]["problems"][0].startswith("text: the text is empty")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "a" * 2001}, "The text has 2,001 characters, at most 2,000 are taken: shorten it."),
        ({"picture": b"0" * 10_000_001}, "The picture has 10.0 MB, at most 10 are taken: make it smaller."),
        ({"picture": ImageData(url="data:image/png;base64,")}, "The picture came without a file: upload it."),
        ({"boxes": "[[1, 2"}, r"The boxes are no JSON: .*"),
        ({"boxes": "[" * 10_000}, r"The boxes are no JSON: .*"),
        ({"checkpoint": "no/such"}, "This checkpoint does not load. .*"),
    ],
    ids=["text", "picture", "no file", "boxes", "nested boxes", "checkpoint"],
)
def test_what_is_refused(taggers, checkpoint, upload, arguments, message):
    arguments = {
        **{"text": "Jordan", "picture": None, "boxes": "", "checkpoint": checkpoint, "explanation": "none"},
        **arguments,
    }
    if isinstance(arguments["picture"], bytes):
        arguments["picture"] = upload(arguments["picture"])
    with pytest.raises(gr.Error) as refusal:
        taggers.tag(**arguments)
    assert re.fullmatch(message, refusal.value.message)


def test_on_zero_gpu_names_and_rows_go_to_the_process_with_a_gpu(
    space_app, checkpoint, relation_checkpoint, upload, monkeypatch
):
    """As its package does it: arguments, results and errors are pickled, and what was loaded before is there."""
    durations, asked = [], []

    def gpu(duration):
        durations.append(duration)

        def decorate(function):
            def run(*arguments):
                asked.append(pickle.loads(pickle.dumps(arguments)))
                with monkeypatch.context() as patch:
                    patch.setattr(space_app, "pipeline", None)  # the fork is thrown away, with what it has loaded
                    try:
                        return pickle.loads(pickle.dumps(function(*asked[-1])))
                    except gr.Error as reason:
                        raise pickle.loads(pickle.dumps(reason)) from None

            return run

        return decorate

    plain = space_app.Taggers({}, relation_checkpoint)
    assert not plain.is_on_zero_gpu
    monkeypatch.setattr(space_app, "spaces", SimpleNamespace(GPU=gpu))
    lent = space_app.Taggers({}, relation_checkpoint)
    assert lent.is_on_zero_gpu and durations == [30]
    lent.load_all([checkpoint, "no/such"])
    picture = upload(Image.linear_gradient("L").convert("RGB").resize((40, 30)))
    for method, *more in (("tag", checkpoint, "occlusion"), ("relate", "Jordan", "Paris")):
        given = ("Jordan met Paris", picture, "[[0, 0, 9, 9]]", *more)
        assert getattr(lent, method)(*given) == getattr(plain, method)(*given)
    assert [name for name, *_ in asked] == [checkpoint, relation_checkpoint]


def test_the_limits_themselves_are_taken(taggers, checkpoint, upload):
    report = taggers.tag("Paris " * 333 + "ab", upload(b"0" * 10_000_000), "", checkpoint, "none")[1]
    assert len(report["text"]) == 2000 and report["entities"]


def test_a_checkpoint_loads_once(space_app, monkeypatch):
    loaded = []

    def load(task, model, **options):
        loaded.append((model, options))
        return SimpleNamespace(processor=processor)

    processor = SimpleNamespace(max_megapixels=25)
    monkeypatch.setattr(space_app, "pipeline", load)
    taggers = space_app.Taggers({"aux_detector": "a/detector"})
    assert taggers.load("me/one") is taggers.load("me/one") is not taggers.load("me/two")
    assert loaded == [
        (name, {"trust_remote_code": True, "aux_detector": "a/detector"}) for name in ("me/one", "me/two")
    ]
    del processor.max_megapixels
    with pytest.raises(gr.Error, match="does not load"):  # its code would decode any picture
        taggers.load("me/old")


def test_where_the_checkpoints_are_named(space_app, monkeypatch, tmp_path):
    monkeypatch.setattr(space_app, "HERE", tmp_path)
    monkeypatch.delenv("CHECKPOINTS", raising=False)
    with pytest.raises(SystemExit, match="No checkpoint is named: --model NAME"):
        space_app.checkpoint_names()
    (tmp_path / "README.md").write_text("---\nsdk: gradio\nmodels:\n- me/card\n---\n", encoding="utf-8")
    assert space_app.checkpoint_names() == ["me/card"]
    monkeypatch.setenv("CHECKPOINTS", "me/one, me/two")
    assert space_app.checkpoint_names() == ["me/one", "me/two"]
    assert space_app.checkpoint_names(["runs/mine"]) == ["runs/mine"]


def test_folders_are_offered_without_their_paths(space_app, tmp_path):
    folders = [str(tmp_path / name) for name in ("a/demo", "b/demo")]
    for folder in folders:
        Path(folder).mkdir(parents=True)
    names = space_app.offered([*folders, "me/demo"])
    assert names == {"demo": folders[0], "demo (2)": folders[1], "me/demo": "me/demo"}


def test_many_requests_are_queued_and_one_too_many_is_told(space_app, checkpoint, serve, upload, monkeypatch):
    picture = upload(Image.new("RGB", (40, 30))).path
    arguments = {"text": "Jordan met Paris", "picture": handle_file(picture), "boxes": "", "explanation": "none"}
    arguments["checkpoint"] = Path(checkpoint).name
    running, most = set(), []

    def slow(*given):
        running.add(threading.get_ident())
        most.append(len(running))
        threading.Event().wait(0.1)
        running.discard(threading.get_ident())
        return given[0], {}

    address = serve(space_app.build([checkpoint], [], space_app.Taggers({})))
    for path in ("config", "gradio_api/info"):
        assert str(Path(checkpoint).parent) not in httpx.get(f"{address}{path}").text, "a visitor sees no path"
    client = Client(address, verbose=False)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.predict(**arguments, api_name="/tag"), range(16), timeout=300))
    assert len({json.dumps(answer) for answer in answers}) == 1 and answers[0][1]["entities"]
    for other in ("me/other", [Path(checkpoint).name], None, checkpoint):
        with pytest.raises(Exception, match="none of those that this page offers"):
            client.predict(**{**arguments, "checkpoint": other}, api_name="/tag")

    monkeypatch.setattr(space_app, "MAX_WAITING", 2)
    page = space_app.build([checkpoint], [], space_app.Taggers({}))
    tag = next(function for function in page.fns.values() if function.api_name == "tag")
    tag.fn = slow
    client = Client(serve(page), verbose=False)
    jobs = [client.submit(**arguments, api_name="/tag") for _ in range(12)]
    outcomes = [job.exception(timeout=300) for job in jobs]
    assert None in outcomes and max(most) == 1, "one at a time"
    assert {"full" in str(outcome).lower() for outcome in outcomes if outcome} == {True}


@pytest.fixture(scope="module")
def relating(space_app, relation_checkpoint):
    return space_app.Taggers({}, relation_checkpoint)


def test_relations_between_the_entities(relating, checkpoint):
    shown, report = relating.tag("Jordan met Paris in New York City", None, "", checkpoint, "none")
    assert report["relations"] and shown.count("<p><bdi>") == len(report["relations"])


def test_the_relation_of_two_entities(relating, relation_checkpoint, upload, space_app, monkeypatch):
    picture = Image.linear_gradient("L").convert("RGB").resize((40, 30))
    boxes = json.dumps({"aux_crops": [[0, 0, 9, 9]]})
    shown, report = relating.relate("Jordan met Paris", upload(picture), boxes, "Paris ", "Jordan")
    expected = relating.load(relation_checkpoint, space_app.RELATION_TASK)(
        {"text": "Jordan met Paris", "head": (11, 16), "tail": (0, 6), "image": picture, "crops": json.loads(boxes)},
        on_error="report",
    )
    assert report == expected and shown == expected._repr_html_() and "Paris<small> head" in shown and "<svg" in shown
    told = []
    monkeypatch.setattr(space_app.gr, "Warning", told.append)
    for head in ("<b>", None):
        shown, report = relating.relate("Jordan met Paris", None, None, head, "Jordan")
        assert set(report) == {"text", "problems"} and "occurs 0 times" in shown
    assert "(&#x27;&lt;b&gt;&#x27; occurs 0 times)" in told[0] and "<b>" not in shown


def test_limits_hold_for_relations_too(relating, upload):
    for arguments, message in (
        (("a" * 2001, None, "", "Jordan", "Paris"), "The text has 2,001 characters"),
        (("Jordan", upload(b"0" * 10_000_001), "", "Jordan", "Paris"), "The picture has 10.0 MB"),
        (("Jordan", None, "[[1", "Jordan", "Paris"), "The boxes are no JSON"),
        (("Jordan", None, "", "a" * 2001, "b"), "The head has 2,001 characters"),
        (("Jordan", None, "", "b", "a" * 2001), "The tail has 2,001 characters"),
    ):
        with pytest.raises(gr.Error) as refusal:
            relating.relate(*arguments)
        assert refusal.value.message.startswith(message)


def test_a_relation_model_that_does_not_load(space_app):
    with pytest.raises(gr.Error) as refusal:
        space_app.Taggers({}, "no/such").relate("Jordan met Paris", None, "", "Jordan", "Paris")
    assert refusal.value.message.startswith("This checkpoint does not load")


def test_what_detectors_refuse_is_told(space_app, relation_checkpoint, upload, tiny_detector, caplog):
    taggers = space_app.Taggers({"rcnn_detector": str(tiny_detector("owlv2"))}, relation_checkpoint)
    picture = upload(Image.new("RGB", (40, 30)))
    with pytest.raises(gr.Error) as refusal:
        taggers.relate("Jordan met Paris", picture, "", "Jordan", "Paris")
    assert refusal.value.message == "The detectors of this page do not work. The log of its server says why."
    assert "rcnn_detector" in caplog.text


def test_where_the_model_of_relations_is_named(space_app, monkeypatch, tmp_path):
    monkeypatch.setattr(space_app, "HERE", tmp_path)
    for name in ("CHECKPOINTS", "RELATION_MODEL"):
        monkeypatch.delenv(name, raising=False)
    assert space_app.relation_model_name() is None
    facts = SpaceFacts("Try it", ["me/tagger"], "me/relations")
    (tmp_path / "README.md").write_text(str(space_card(facts)), encoding="utf-8")
    assert space_app.relation_model_name() == "me/relations" and space_app.checkpoint_names() == ["me/tagger"]
    monkeypatch.setenv("RELATION_MODEL", "me/other")
    assert space_app.relation_model_name() == "me/other"
    assert space_app.relation_model_name("runs/mine") == "runs/mine"


def test_the_menu_of_models_shows_only_where_there_are_several(space_app, checkpoint, relation_checkpoint):
    for checkpoints in ([checkpoint], [checkpoint, relation_checkpoint]):
        page = space_app.build(checkpoints, [], space_app.Taggers({}))
        (menu,) = [part["props"] for part in page.config["components"] if part["type"] == "dropdown"]
        assert menu["visible"] is (len(checkpoints) > 1)
        assert [shown for shown, _ in menu["choices"]] == [Path(name).name for name in checkpoints]


def test_tabs_only_where_there_are_relations(space_app, checkpoint, relating, serve):
    def tabs(page):
        return [part["props"]["label"] for part in page.config["components"] if part["type"] == "tabitem"]

    def endpoints(page):
        return {function.api_name for function in page.fns.values() if function.api_visibility == "public"}

    plain = space_app.build([checkpoint], [], space_app.Taggers({}))
    assert tabs(plain) == [] and endpoints(plain) == {"tag"}
    page = space_app.build([checkpoint], [], relating)
    assert tabs(page) == ["Names", "Relation of two names"] and endpoints(page) == {"tag", "relate"}

    running, most = set(), []
    for function in page.fns.values():
        if function.api_name in ("tag", "relate"):

            def slow(*given, answer=function.fn):
                running.add(threading.get_ident())
                most.append(len(running))
                threading.Event().wait(0.2)
                running.discard(threading.get_ident())
                return answer(*given)

            function.fn = slow
    client = Client(serve(page), verbose=False)
    tweet = {"text": "Jordan met Paris", "picture": None, "boxes": ""}
    pair = {"head": "Jordan", "tail": "Paris"}
    jobs = [
        client.submit(**tweet, checkpoint=Path(checkpoint).name, explanation="none", api_name="/tag"),
        client.submit(**tweet, **pair, api_name="/relate"),
        client.submit(**tweet, checkpoint=Path(checkpoint).name, explanation="none", api_name="/tag"),
    ]
    (_, entities), (shown, relation), _ = (job.result() for job in jobs)
    assert entities["relations"] and relation["relation"] and "Jordan<small> head" in shown
    assert most == [1, 1, 1], "one at a time, of both tabs"


def test_a_model_of_several_pictures_has_fields_for_them(space_app, make_config, make_processor, upload, tmp_path):
    processor = make_processor(max_images=3)
    model = IFAformerForTokenClassification(make_config(**processor.config_fields)).eval()
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    taggers = space_app.Taggers({})
    page = space_app.build([str(tmp_path)], [], taggers)
    labels = [block.label for block in page.blocks.values() if isinstance(block, gr.Image)]
    assert labels[1:] == ["Picture 2", "Picture 3"]
    (function,) = (of for of in page.fns.values() if of.api_name == "tag")
    parameters = signature(function.fn).parameters
    assert list(parameters)[-2:] == ["picture_2", "picture_3"] and parameters["picture_3"].default is None
    shown = Image.linear_gradient("L").convert("RGB").resize((40, 30))
    boxes = json.dumps([{"box": [0, 0, 9, 9], "image": 1}])
    html, report = function.fn("Jordan met Paris", upload(shown), boxes, str(tmp_path), "none", upload(shown), None)
    expected = taggers.load(str(tmp_path))(
        {"text": "Jordan met Paris", "image": [shown, shown], "crops": [{"box": (0, 0, 9, 9), "image": 1}]},
        on_error="report",
    )
    assert report["entities"] == expected["entities"] and report["crops"] == expected["crops"]
    assert html.count("<svg viewBox") == 2


def test_a_model_of_one_picture_has_one_field(space_app, checkpoint):
    page = space_app.build([checkpoint], [], space_app.Taggers({}))
    assert sum(isinstance(block, gr.Image) for block in page.blocks.values()) == 1
