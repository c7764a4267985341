"""The pages that commands write, in Chromium: everybody can read them, light or dark, on wide and narrow windows."""

import pytest
from datasets import Features, List
from datasets import Image as Encoded
from PIL import Image

from modeling_ifaformer.checkpoints.trained import load_checkpoint
from modeling_ifaformer.prediction.demo_page import demo_page
from modeling_ifaformer.prediction.input_rows import InputRow
from modeling_ifaformer.prediction.prediction_page import article, results_page
from modeling_ifaformer.prediction.prediction_report import PredictionReport
from processing import IFAformerPipeline
from processing.columns import CROP_COLUMNS
from processing.data.demo.entity_tweets import DemoMNER
from processing.inspection.error_page import error_page
from processing.inspection.sample_page import choose_rows, sample_page
from processing.inspection.statistics import split_statistics
from processing.labels import TWITTER_TAGS
from processing.scoring.error_analysis import analyse_entities


RESULTS = {"tiny": {"f1": 0.5, "support": 3}}
TWEET = {
    "text": "Jordan met Paris in New York City",
    "image": Image.linear_gradient("L").convert("RGB").resize((400, 300)),
    "crops": [{"box": (0, 0, 90, 90), "label": "a dog", "score": 0.5}, (50, 50, 390, 290)],
}


def tagged_page(checkpoint, **options):
    model, processor = load_checkpoint(checkpoint)
    result = IFAformerPipeline(model, processor=processor)(TWEET, on_error="report", **options)
    report = PredictionReport()
    report.add("tweets.jsonl:1", result)
    shown = [article(InputRow("tweets.jsonl:1", TWEET), result)] * 3
    return results_page("Entities", "tiny", shown, report, is_explained=bool(options)).decode()


def demo_data(cache):
    builder = DemoMNER(cache_dir=str(cache), num_train=4, num_validation=1, num_test=1)
    builder.download_and_prepare()
    encoded = {"image": Encoded(decode=False)} | {name: List(Encoded(decode=False)) for name in CROP_COLUMNS}
    data = builder.as_dataset()
    return data.cast(Features({**data["train"].features, **encoded}))


def data_page(checkpoint, cache):
    data = demo_data(cache)
    statistics = {split: split_statistics(rows) for split, rows in data.items()}
    return sample_page(data, choose_rows(data), statistics, name="demo")


def errors_page(checkpoint, cache):
    rows = demo_data(cache)["train"]
    gold = [[TWITTER_TAGS[tag] for tag in tags] for tags in rows["ner_tags"]]
    predicted = [["B-LOC"] * len(tags) for tags in gold]
    analysis = analyse_entities(zip(gold, predicted, strict=True), rows["tokens"])
    assert {match.kind for match in analysis.matches} >= {"wrong type", "spurious"}
    return error_page({"tiny": analysis}, rows, name="demo", split="train")


PAGES = {
    "explained": lambda checkpoint, folder: tagged_page(checkpoint, explain="occlusion"),
    "report": lambda checkpoint, folder: tagged_page(checkpoint),
    "data": data_page,
    "errors": errors_page,
    "demo": lambda checkpoint, folder: demo_page({"tiny": load_checkpoint(checkpoint)}, RESULTS),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_readable(name, checkpoint, browser, axe, tmp_path):
    (tmp_path / "page.html").write_text(PAGES[name](checkpoint, tmp_path / "cache"), encoding="utf-8")
    for colours in ("light", "dark"):
        for width in (1280, 400):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=colours)
            page = context.new_page()
            page.goto((tmp_path / "page.html").as_uri())
            assert axe(page) == [], (colours, width)
            root = "document.documentElement"
            assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), (colours, width)
            context.close()
