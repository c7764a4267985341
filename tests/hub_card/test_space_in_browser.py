"""The Space's page as a visitor has it: in Debian's Chromium, without a network."""

import json
import re
import shutil

import pytest
from PIL import Image


pytest.importorskip("gradio", reason="gradio is not installed (pip install -e .[space])")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e .[dev])")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium on this machine (apt-get install chromium)", allow_module_level=True)

TEXT, BUTTON, RESULT = "Jordan met Paris in New York City .", "Find entities", "The result comes here."
BOXES = {"aux_crops": [[4, 4, 20, 20]], "rcnn_crops": [[0, 0, 30, 20]]}


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "photo.png"
    Image.radial_gradient("L").convert("RGB").resize((60, 40)).save(path)
    return path


@pytest.fixture(scope="module")
def address(space_app, checkpoint, picture):
    page = space_app.build([checkpoint], [[TEXT, str(picture), json.dumps(BOXES)]], space_app.Taggers({}))
    _, address, _ = space_app.serve(page, prevent_thread_lock=True, quiet=True)
    yield address
    page.close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address_with_relations(space_app, checkpoint, relation_checkpoint):
    page = space_app.build([checkpoint], [], space_app.Taggers({}, relation_checkpoint))
    _, address, _ = space_app.serve(page, prevent_thread_lock=True, quiet=True)
    yield address
    page.close()


@pytest.fixture
def open_page(browser, address):
    """
    `open_page(width, at=address)` -> the page. Afterwards: nothing on the console, and no request to anybody else.
    """
    contexts, complaints = [], []

    def note(message):
        # gradio's own: the progress of an upload that was over before it was asked for
        is_progress = "/upload_progress" in message.location["url"] or message.text == "Response"
        if message.type == "error" and not is_progress:
            complaints.append(message.text)

    def start(width=1200, at=address):
        context = browser.new_context(viewport={"width": width, "height": 900})
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


def test_type_upload_read_copy(open_page, space_app, checkpoint, picture):
    page = open_page()
    page.get_by_label("Tweet").fill(TEXT)
    put(page, picture)
    page.get_by_role("img").first.wait_for()
    page.get_by_label("attention").check()
    page.get_by_text("Boxes to look at").click()
    page.get_by_label("Boxes as JSON").fill(json.dumps(BOXES))
    page.get_by_role("button", name=BUTTON).click()
    expected = space_app.Taggers({}).load(checkpoint)(
        {"text": TEXT, "image": str(picture), "crops": BOXES}, on_error="report", explain="attention"
    )
    article = result_of(page)
    assert article.locator("mark").count() == len(expected["entities"]) > 0
    widths = article.locator("rect").evaluate_all("boxes => boxes.map(box => box.getAttribute('stroke-width'))")
    assert len(widths) == 2 * len(expected["entities"]) and len(set(widths)) > 1, "by share"
    page.get_by_role("button", name=re.compile("copy", re.IGNORECASE)).click()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied["text"] == TEXT and copied["crops"] == expected["crops"]
    for found, entity in zip(copied["entities"], expected["entities"], strict=True):
        assert (found["start"], found["end"], found["entity_group"]) == (
            entity["start"],
            entity["end"],
            entity["entity_group"],
        )
        assert found["score"] == pytest.approx(entity["score"], abs=1e-4)


def test_an_example_brings_its_boxes_and_an_own_picture_drops_them(open_page, picture):
    page = open_page()
    page.get_by_role("gridcell").first.or_(page.locator("table tbody td").first).first.click()
    playwright.expect(page.get_by_label("Tweet")).to_have_value(TEXT)
    page.get_by_text("Boxes to look at").click()
    boxes = page.get_by_label("Boxes as JSON")
    playwright.expect(boxes).to_have_value(json.dumps(BOXES))
    page.get_by_role("button", name=BUTTON).click()
    assert result_of(page).locator("rect").count() == 2
    page.get_by_role("button", name=re.compile("clear|remove", re.IGNORECASE)).first.click()
    playwright.expect(boxes).to_have_value("")


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
    first = result_of(page).locator("p").first
    shown = first.evaluate(
        "p => { const copy = p.cloneNode(true); copy.querySelectorAll('mark > small').forEach(s => s.remove()); "
        "return copy.textContent }"
    )
    assert shown == text
    assert page.locator(".tagged script, .tagged img, .tagged iframe").count() == 0
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
    focus("e.value == 'attention'")  # gradio makes each choice a group of its own: Tab and Space, no arrows
    page.keyboard.press("Space")
    playwright.expect(page.get_by_label("attention")).to_be_checked()
    focus(f"e.tagName == 'BUTTON' && e.textContent.includes('{BUTTON}')")
    page.keyboard.press("Enter")
    assert result_of(page).locator("mark").count() > 0
    assert is_within(page)


def test_two_entities_on_the_tab_for_relations(open_page, address_with_relations, picture):
    page = open_page(width=400, at=address_with_relations)
    page.get_by_role("tab", name="Relations").click()
    tab = page.get_by_role("tabpanel").filter(visible=True)
    tab.get_by_label("Tweet", exact=True).fill(TEXT)
    with page.expect_response(re.compile("/upload")):
        tab.locator("input[type=file]").set_input_files(picture)
    tab.locator("img").first.wait_for()
    tab.get_by_label("Head").fill("Paris")
    tab.get_by_label("Tail").fill("New York City")
    tab.get_by_role("button", name="Find the relation").click()
    article = tab.locator(".tagged article")
    article.wait_for()
    assert article.locator("mark").all_inner_texts() == ["Parishead", "New York Citytail"]
    assert article.locator("p").nth(1).inner_text().startswith("Paris ") and article.locator("img").count() == 1
    assert is_within(page)
    tab.get_by_label("Head").fill("in York")
    tab.get_by_label("Head").press("Enter")
    playwright.expect(article.locator(".note")).to_contain_text("'in York' occurs 0 times")
    page.get_by_role("tab", name="Entities").click()
    page.get_by_label("Tweet", exact=True).filter(visible=True).fill(TEXT)
    page.get_by_role("button", name=BUTTON).click()
    page.locator(".tagged article").filter(visible=True).locator("mark").first.wait_for()
