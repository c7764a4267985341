"""The page about the demo: a tiny model with random weights answers, and its answers are shown as they are."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from modeling_ifaformer.checkpoints.trained import load_checkpoint
from modeling_ifaformer.prediction.demo_page import SENTENCE, demo_page
from processing import IFAformerPipeline
from processing.data.demo.entity_tweets import TYPICAL_TWEETS, plan_tweet
from processing.inspection.html_page import page
from processing.rendering import CROP_COLOURS


RESULTS = {"runs/full": (0.98765, 435), "runs/full (pictures shuffled)": (0.3885, 435), "runs/text": (0.409, 435)}
RESULTS = {name: {"f1": f1, "support": support} for name, (f1, support) in RESULTS.items()}


@pytest.fixture
def checkpoints(checkpoint):
    """A model that looks at pictures and one that does not, by their names in `RESULTS`."""
    full, blind = load_checkpoint(checkpoint), load_checkpoint(checkpoint)
    blind[0].config.text_attends_vision = False
    return {"runs/full": full, "runs/text": blind}


def parsed(text):
    """What is in the body; an error where it is not well-formed."""
    return ElementTree.fromstring(re.search(r"<body>.*</body>", text)[0])


def test_four_pictures_with_the_answers_of_the_model_and_a_frame_each(checkpoints):
    articles = parsed(demo_page(checkpoints, RESULTS)).findall(".//article")
    model, processor = checkpoints["runs/full"]
    tagger = IFAformerPipeline(model, processor=processor)
    answers = []
    for article, (entity_type, index) in zip(articles, TYPICAL_TWEETS.items(), strict=True):
        scene = plan_tweet(0, "test", index).scene
        boxes = [crop.box for crop in scene.aux_crops]
        answers += (found := tagger({"text": SENTENCE, "image": scene.paint(), "crops": boxes}))
        assert "".join(article.find("p").itertext()) == "".join(
            text + (f" {entity['entity_group']} {entity['score']:.2f}" if entity else "")
            for text, entity in pieces(SENTENCE, found)
        )
        assert f"({entity_type})" in article.find(".//figcaption").text
        (frame,) = article.findall(".//rect")  # of the object that decides, and of no other
        left, top, width, height = (float(frame.get(name)) for name in ("x", "y", "width", "height"))
        (deciding,) = (item.box for item in scene.objects if item.deciding)
        assert left <= deciding[0] and top <= deciding[1] and frame.get("stroke") == CROP_COLOURS["aux"]
        assert left + width >= deciding[2] and top + height >= deciding[3]
        assert article.find(".//image").get("href").startswith("data:image/jpeg;base64,")
    assert answers, "else nothing is shown that could be wrong"


def pieces(text, entities):
    """The text in pieces, with the entity that each of them is, or None."""
    position = 0
    for entity in entities:
        yield text[position : entity["start"]], None
        yield text[entity["start"] : entity["end"]], entity
        position = entity["end"]
    yield text[position:], None


def test_three_figures_and_what_the_demo_is_not(checkpoints):
    text = demo_page(checkpoints, RESULTS)
    figures = parsed(text).find(".//div[@class='beside figures']")
    assert [(of.find("b").text, of.find("b").tail.strip()) for of in figures] == [
        ("98.8", "with the pictures"),
        ("40.9", "without pictures"),
        ("38.9", "with the wrong pictures"),
    ]
    assert "435 names" in text
    assert re.search(r"knows drawn pictures and some hundred names: .* it is of no use on them\.", text)


def test_the_page_stands_alone_and_tells_nothing_of_the_machine(checkpoints, checkpoint):
    moved = {f"{checkpoint}/{name}": of for name, of in checkpoints.items()}
    text = demo_page(moved, {f"{checkpoint}/{name}": result for name, result in RESULTS.items()})
    assert checkpoint not in text and "runs/" not in text
    assert not re.search(r"https?://|<script|<link|url\(", text)


@pytest.mark.parametrize("num_aux_crops", [3, 0])
def test_names_of_types_are_no_markup(make_config, make_processor, num_aux_crops):
    import torch

    from modeling_ifaformer import IFAformerForTokenClassification
    from processing.labels import label_maps

    crops = {"num_aux_crops": num_aux_crops}  # a model that takes none is shown, too
    processor = make_processor(tags=["O", "B-<script>", "I-<script>"], **crops)
    torch.manual_seed(0)
    model = IFAformerForTokenClassification(make_config(**crops, **label_maps(processor.labels))).eval()
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([-9.0, 9.0, 0.0]))
    text = demo_page({"runs/full": (model, processor)}, RESULTS)
    assert "<script" not in text and "&lt;script&gt; 1.00</small>" in text


def test_both_colour_schemes_have_the_same_colours():
    style = page("", "")
    light, dark = re.findall(r":root \{ (?:color-scheme: light dark; )?(.*?) \}", style)
    names = [re.findall(r"(--\w+): #", scheme) for scheme in (light, dark)]
    assert names[0] == names[1] == list(dict.fromkeys(re.findall(r"--\w+(?=:)", style)))
    assert set(re.findall(r"var\((--\w+)\)", style)) == {*names[0], "--share"}  # that of a bar
    assert "@media (prefers-color-scheme: dark)" in style
