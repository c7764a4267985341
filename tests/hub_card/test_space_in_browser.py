"""The Space's page as a visitor has it: in Debian's Chromium, without a network."""

import json
import re
import threading

import pytest
from PIL import Image


pytest.importorskip("gradio", reason="gradio is not installed (pip install -e .[space])")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e .[dev])")

TEXT, BUTTON, RESULT = "Jordan met Paris in New York City .", "Find the names", "The result comes here."
BOXES = {"aux_crops": [{"box": [4, 4, 20, 20], "label": "a dog", "score": 0.5}], "rcnn_crops": [[0, 0, 30, 20]]}


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "photo.png"
    Image.radial_gradient("L").convert("RGB").resize((60, 40)).save(path)
    return path


@pytest.fixture(scope="module")
def address(space_app, checkpoint, picture):
    examples = [{"text": TEXT, "image": str(picture), "boxes": json.dumps(BOXES)}]
    examples.append({**examples[0], "text": "Jordan met Paris", "head": "Jordan", "tail": "Paris"})
    page = space_app.build([checkpoint], examples, space_app.Taggers({}))
    _, address, _ = space_app.serve(page, prevent_thread_lock=True, quiet=True)
    yield address
    page.close()


@pytest.fixture(scope="module")
def address_with_relations(space_app, checkpoint, relation_checkpoint, picture):
    example = {"text": "Jordan met Paris", "image": str(picture), "boxes": "", "head": "Paris", "tail": "Jordan"}
    page = space_app.build([checkpoint], [example], space_app.Taggers({}, relation_checkpoint))
    _, address, _ = space_app.serve(page, prevent_thread_lock=True, quiet=True)
    yield address
    page.close()


@pytest.fixture
def open_page(browser, address):
    """
    `open_page(width, at=address, colours="light")` -> the page. Afterwards: nothing on the console, and no request to
    anybody else.
    """
    contexts, complaints = [], []

    def note(message):
        # gradio's own: the progress of an upload that was over before it was asked for
        is_progress = "/upload_progress" in message.location["url"] or message.text == "Response"
        if message.type == "error" and not is_progress:
            complaints.append(message.text)

    def start(width=1200, at=address, colours="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=colours)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
        ours = (at, "data:", "blob:")
        page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith(ours) else None)
        page.goto(at)
        page.get_by_text(RESULT).first.wait_for()
        return page

    yield start
    for context in contexts:
        context.close()
    assert complaints == []


def result_of(page):
    """The result's text, when there is one."""
    article = page.locator(".tagged article")
    article.wait_for()
    return article


def put(page, picture):
    with page.expect_response(re.compile("/upload")):
        page.locator("input[type=file]").set_input_files(picture)


def is_within(page):
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def choose_example(page):
    page.locator(".examples tbody tr").filter(visible=True).first.click()


def shares_shown(page):
    """The percent of each source, of the name that is chosen."""
    return page.locator(".tagged .share").filter(visible=True).all_inner_texts()


def test_type_upload_read_copy(open_page, space_app, checkpoint, picture):
    page = open_page()
    page.get_by_label("Tweet").fill(TEXT)
    put(page, picture)
    page.get_by_role("img").first.wait_for()
    page.get_by_text("Settings").click()
    page.get_by_label("where its attention went").check()
    page.get_by_role("button", name=BUTTON).click()
    expected = space_app.Taggers({}).load(checkpoint)({"text": TEXT, "image": str(picture)}, explain="attention")
    article = result_of(page)
    assert article.locator("mark").count() == len(expected) > 1
    assert article.locator("image").count() == 1, "one picture for all names"
    assert "Jordan " in article.locator("mark").first.inner_text(), "a space between name and type"
    page.get_by_text("The same as JSON").click()
    page.get_by_role("button", name=re.compile("copy", re.IGNORECASE)).click()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied["text"] == TEXT
    for found, entity in zip(copied["entities"], expected, strict=True):
        assert (found["start"], found["end"], found["entity_group"]) == (
            entity["start"],
            entity["end"],
            entity["entity_group"],
        )
        assert found["score"] == pytest.approx(entity["score"], abs=1e-4)


def test_a_name_is_chosen_by_click_or_keyboard(open_page, space_app, checkpoint, picture):
    page = open_page()
    choose_example(page)
    names = result_of(page).get_by_role("radio")
    expected = space_app.Taggers({}).load(checkpoint)(
        {"text": TEXT, "image": str(picture), "crops": BOXES}, explain="occlusion"
    )
    told = [[f"{100 * share['share']:.0f} %" for share in entity["shares"]] for entity in expected]
    assert names.count() == len(expected) > 1 and len({*map(tuple, told)}) > 1
    assert shares_shown(page) == told[0]
    result_of(page).locator("mark").nth(1).click()
    assert shares_shown(page) == told[1]
    page.keyboard.press("ArrowLeft")
    assert shares_shown(page) == told[0] and names.first.is_checked()
    frames = result_of(page).locator("g.of-0 rect, g.of-1 rect").filter(visible=True)
    assert frames.count() == 2
    assert result_of(page).locator("li").all_inner_texts()[2].split("\n")[:2] == ["1", "a dog (found by the detector)"]


def test_an_example_runs_at_once_and_what_is_changed_clears_the_result(open_page, picture):
    page = open_page()
    waiting = page.get_by_text(RESULT)
    for change in (
        lambda: page.get_by_label("Tweet").press_sequentially("!"),
        lambda: page.get_by_label("Tweet").fill("Jordan met Paris"),  # as what is pasted comes
        lambda: page.get_by_role("button", name=re.compile("clear|remove", re.IGNORECASE)).first.click(),
    ):
        choose_example(page)
        assert result_of(page).locator("svg.crop").count() == 3  # of the picture and of its two parts
        change()
        waiting.wait_for()
    put(page, picture)
    page.get_by_role("button", name=BUTTON).click()
    assert result_of(page).locator("svg.crop").count() == 1, "the parts were those of the example's picture"


def test_an_answer_that_is_late_is_not_shown(space_app, checkpoint, open_page, serve):
    asked, may_go_on = threading.Event(), threading.Event()

    class Slow(space_app.Taggers):
        def tag(self, text, picture, boxes, checkpoint, explanation):
            if text == "slow":
                asked.set()
                assert may_go_on.wait(60)
            return f"<article>{text}</article>", {"text": text}

    page = open_page(at=serve(space_app.build([checkpoint], [], Slow({}))))
    page.get_by_label("Tweet").fill("slow")
    page.get_by_role("button", name=BUTTON).click()
    assert asked.wait(60)
    page.get_by_label("Tweet").press_sequentially("er")
    may_go_on.set()
    page.get_by_text(RESULT).wait_for()
    page.wait_for_timeout(1000)
    assert page.locator(".tagged article").count() == 0
    page.get_by_role("button", name=BUTTON).click()
    playwright.expect(result_of(page)).to_have_text("slower")


TOP = "document.querySelector('.tagged').getBoundingClientRect().top"


def test_the_result_comes_into_view_on_a_phone(open_page):
    page = open_page(width=400)
    assert page.evaluate(f"{TOP} > 2 * window.innerHeight / 3"), "it cannot be seen before"
    choose_example(page)
    result_of(page)
    page.wait_for_function(f"{TOP} < window.innerHeight / 2", timeout=10_000)


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_everybody_can_read_and_use_it(open_page, address_with_relations, axe, width, colours):
    page = open_page(width, address_with_relations, colours)
    assert axe(page) == []
    page.get_by_label("Tweet").fill(TEXT)
    page.get_by_role("button", name=BUTTON).click()
    result_of(page)
    assert axe(page) == []
    page.get_by_role("tab", name="Relation").click()
    choose_example(page)
    page.locator(".tagged article b").or_(page.get_by_text("No relation found")).first.wait_for()
    assert axe(page) == []
    assert is_within(page)


HOSTILE = [
    "<script>alert(1)</script> <img src=x onerror=alert(2)> Jordan",
    "${alert(3)} {{alert(4)}} </mark></article><iframe srcdoc='<script>parent.alert(5)</script>'> Paris",
    "\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 Jordan \U0001f602\U0001f1e9\U0001f1ea",
    "P" + "a" * 1500 + " Jordan",
]


@pytest.mark.parametrize("text", HOSTILE, ids=["markup", "templates", "right-to-left", "long word"])
def test_any_text_is_shown_as_text(open_page, text):
    page = open_page(width=400)
    page.get_by_label("Tweet").fill(text)
    page.get_by_role("button", name=BUTTON).click()
    first = result_of(page).locator(".text")
    shown = first.evaluate(
        "p => { const copy = p.cloneNode(true); copy.querySelectorAll('mark > small').forEach(s => s.remove()); "
        "return copy.textContent }"
    )
    assert shown == text
    assert page.locator(".tagged script, .tagged img, .tagged iframe").count() == 0
    if "\u05e9" in text:  # Hebrew
        assert first.evaluate("p => getComputedStyle(p).direction + getComputedStyle(p).textAlign") == "rtlstart"
    page.wait_for_timeout(200)  # what a script would need to run
    assert is_within(page)


def test_a_bad_upload_is_told_and_the_text_still_tagged(open_page, tmp_path):
    page = open_page(width=400)
    bad = tmp_path / "<img src=x onerror=alert(1)>.png"
    bad.write_bytes(b"no picture")
    page.get_by_label("Tweet").fill(TEXT)
    put(page, bad)
    page.get_by_role("button", name=BUTTON).click()
    article = result_of(page)
    assert "not a picture in a format that is read" in article.locator(".note").inner_text()
    playwright.expect(page.get_by_test_id("toast-body").first).to_contain_text("not a picture in a format")
    assert article.locator("mark").count() > 0


def test_what_is_too_large_is_told(open_page, tmp_path):
    page = open_page(width=400)
    large = tmp_path / "large.png"
    large.write_bytes(b"0" * 10_000_001)
    put(page, large)
    playwright.expect(page.get_by_test_id("toast-body").first).to_contain_text("maximum allowed size")
    page.get_by_label("Tweet").fill("a" * 2001)
    page.get_by_role("button", name=BUTTON).click()
    playwright.expect(page.get_by_text("The text has 2,001 characters")).to_be_visible()
    assert is_within(page)


def test_by_keyboard_alone_on_a_phone(open_page):
    page = open_page(width=400)

    def focus(found, steps=40):
        for _ in range(steps):
            if page.evaluate(f"(() => {{ const e = document.activeElement; return Boolean({found}) }})()"):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"no Tab leads to {found}")

    focus("e.tagName == 'TEXTAREA'")
    page.keyboard.type(TEXT)
    focus(f"e.tagName == 'BUTTON' && e.textContent.includes('{BUTTON}')")
    page.keyboard.press("Enter")
    assert result_of(page).locator("mark").count() > 1
    focus("e.type == 'radio' && e.closest('.tagged')")
    page.keyboard.press("ArrowRight")
    assert result_of(page).get_by_role("radio").nth(1).is_checked()
    assert is_within(page)


def test_the_relation_of_two_names(open_page, address_with_relations):
    page = open_page(width=400, at=address_with_relations)
    page.get_by_label("Tweet", exact=True).fill(TEXT)
    page.get_by_role("tab", name="Relation").click()
    playwright.expect(page.get_by_label("Tweet", exact=True)).to_have_value(TEXT)  # it is the same text
    first, second = page.get_by_label("Head"), page.get_by_label("Tail")
    first.fill("Paris")
    second.fill("New York City")
    page.get_by_role("button", name="Find the relation").click()
    article = result_of(page)
    assert article.locator("mark").all_inner_texts() == ["Paris head", "New York City tail"]
    said = article.locator("p").nth(1).inner_text()
    assert re.fullmatch(r"Paris .* New York City, [01]\.\d\d|No relation found, [01]\.\d\d\.", said)
    first.fill("in York")
    first.press("Enter")
    playwright.expect(article.locator(".note")).to_contain_text("'in York' occurs 0 times")
    choose_example(page)
    playwright.expect(first).to_have_value("Paris")
    playwright.expect(article.locator("mark")).to_have_text(["Jordan tail", "Paris head"])
    page.get_by_role("tab", name="Names", exact=True).click()
    page.get_by_role("button", name=BUTTON).click()
    article.get_by_role("radio").first.wait_for(state="attached")
    assert is_within(page)
