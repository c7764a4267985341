"""The pipeline: kinds of input, batches, bad input, and the folder it travels in."""

import base64
import io
import itertools
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor

import datasets
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import Trainer, TrainingArguments, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from modeling_ifaformer import IFAformerForRelationExtraction
from processing import IFAformerPipeline, base_processor
from processing.context import CONTEXT_CUT, WRONG_CONTEXT
from processing.explanations import NOT_FOLLOWED
from processing.images import (
    DAMAGED,
    EMPTY,
    NO_SOURCE,
    NO_SUCH_FILE,
    UNKNOWN_FORMAT,
    WRONG_ARRAY,
    WRONG_TYPE,
    ImageError,
)
from processing.labels import decode_entities, scored_positions
from processing.object_proposals import ObjectDetector
from processing.pipeline_ifaformer import TASK
from processing.pipeline_rows import (
    MISNAMED_IMAGE,
    NO_ROW,
    NO_TEXT,
    OUTSIDE,
    TOO_MANY,
    WRONG_TEXT,
)
from processing.problems import NO_UNICODE, Problem, ProblemError
from processing.tokenizing import CUT_OFF, NO_WORDS, split_words, token_features


DEEPKE = {"label_scheme": "deepke", "use_whole_image": False}


def picture(number, size=(40, 30)):
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def rows():
    return [
        {"text": "Jordan met Paris in New York City!", "image": picture(0), "aux_crops": [picture(1), picture(2)]},
        {"text": "RT"},
        {"text": ["the", "team", "of", "Chelsea"], "rcnn_crops": [picture(3)]},
        {"tokens": ["unaffable", "Paris"], "image": None, "aux_crops": [], "rcnn_crops": [picture(4), picture(5)]},
        "playing in #Paris @ the City",
        {"text": "met Jordan .", "aux_crops": picture(6), "image": picture(7)},
        ["Chelsea", "playing"],
    ]


def plain(entities):
    return [{name: value for name, value in entity.items() if name != "score"} for entity in entities]


def assert_same(ours, theirs):
    ours, theirs = list(ours), list(theirs)
    assert [plain(entities) for entities in ours] == [plain(entities) for entities in theirs]
    scores = [[entity["score"] for entities in results for entity in entities] for results in (ours, theirs)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_an_entity(tagger):
    (first, *_) = entities = tagger(rows()[0])
    assert list(first) == ["entity_group", "score", "word", "start", "end"]
    assert first["entity_group"] in ("MISC", "PER", "ORG", "LOC")
    assert all(0 < entity["score"] <= 1 for entity in entities)


def test_entities_below_the_threshold_are_left_out(tagger, tmp_path):
    found = [entity for entities in tagger(rows()) for entity in entities]
    middle = sorted(entity["score"] for entity in found)[len(found) // 2]
    kept = [entity for entities in tagger(rows(), threshold=middle) for entity in entities]
    assert kept == [entity for entity in found if entity["score"] >= middle] and 0 < len(kept) < len(found)
    entity_type = found[0]["entity_group"]
    for threshold in ({entity_type: 1.0}, "best"):
        tagger.model.config.thresholds = {entity_type: 1.0}
        results = tagger(rows(), threshold=threshold, on_error="report")
        left = [entity for result in results for entity in result["entities"]]
        assert left == [entity for entity in found if entity["entity_group"] != entity_type]
        assert [name for result in results for name in result.left_out] == [entity_type] * (len(found) - len(left))
    again = [entity for entities in tagger(rows()) for entity in entities]
    assert again == found, "by default nothing is left out"
    tagger.save_pretrained(tmp_path)
    from_disk = pipeline(TASK, model=str(tmp_path), threshold="best", trust_remote_code=True, device="cpu")
    assert_same(from_disk(rows()), [result["entities"] for result in results])


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (1.5, r"threshold must be a number from 0 to 1, a mapping .* or 'best', got 1\.5"),
        (True, "threshold must be a number from 0 to 1"),
        ("high", "threshold must be a number from 0 to 1"),
        ({"PER": None}, "threshold must be a number from 0 to 1"),
        ({"peer": 0.5, "PER": 0.5}, "threshold names peer, but the models know only MISC, PER, ORG, LOC"),
        ("best", "the configuration of this model has none"),
    ],
)
def test_what_is_no_threshold(tagger, threshold, message):
    with pytest.raises(ValueError, match=message):
        tagger("Jordan", threshold=threshold)


def test_pictures_and_crops_matter(tagger):
    text = "Jordan met Paris in New York City!"
    with_pictures, without = (tagger(row) for row in (rows()[0], text))
    assert with_pictures != without


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("variant", ["corrected", "deepke"])
def test_results_do_not_depend_on_the_batch(variant, batch_size, make_model, make_processor):
    deepke = variant == "deepke"
    processor = make_processor(**(DEEPKE | {"max_length": 30, "pad_to_max_length": True} if deepke else {}))
    model = make_model(processor, attention_variant=variant, **(DEEPKE if deepke else {}))
    tagger = IFAformerPipeline(model, processor=processor, device="cpu")
    results = tagger(rows(), batch_size=batch_size)
    assert isinstance(results, list) and sum(map(len, results)) > 5
    assert_same(results, [tagger(row if not isinstance(row, list) else {"tokens": row}) for row in rows()])


def test_kinds_of_many(tagger, tmp_path):
    expected = tagger(rows())
    assert_same(tagger(tuple(rows())), expected)
    assert_same(tagger((row for row in rows()), batch_size=2), expected)
    assert_same(tagger(iter(rows()), batch_size=2), expected)
    assert_same(tagger(rows(), batch_size=2, num_workers=2), expected)
    assert tagger([]) == [] and list(tagger(iter([]))) == []
    endless = tagger(itertools.cycle(rows()), batch_size=2)
    assert_same(itertools.islice(endless, 9), [*expected, *expected[:2]])


def test_data_sets(tagger):
    columns = {"tokens": [["Jordan", "met", "Paris"], ["RT"], ["the", "City"]], "id": ["a", "b", "c"]}
    columns |= {"image": [picture(0), None, picture(1)], "aux_crops": [[picture(2)], [], [picture(3), picture(4)]]}
    image = datasets.Image()
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "id": datasets.Value("string"),
            "image": image,
            "aux_crops": datasets.List(image),
        }
    )
    data = datasets.Dataset.from_dict(columns, features=features)
    expected = tagger([dict(row) for row in data])
    results = tagger(data, batch_size=2)
    assert len(results) == 3
    assert_same(results, expected)
    assert_same(results, expected)  # a second time
    assert_same(tagger(data.cast_column("image", datasets.Image(decode=False))), expected)
    assert_same(tagger(data.to_iterable_dataset(), batch_size=2), expected)
    words = [row["tokens"] for row in data]
    results = tagger(KeyDataset(data, "tokens"), batch_size=2)
    assert len(results) == 3
    assert_same(results, tagger([{"tokens": row} for row in words]))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_data_set_with_a_row_that_cannot_be_opened(tagger, num_workers):
    """`datasets` opens the picture when the row is asked for."""
    columns = {"text": ["Jordan", "Paris"], "image": [{"bytes": b"damaged", "path": None}, None]}
    features = datasets.Features({"text": datasets.Value("string"), "image": datasets.Image()})
    data = datasets.Dataset.from_dict(columns, features=features)
    damaged, whole = tagger(data, on_error="report", num_workers=num_workers)
    assert [problem.kind for problem in damaged.found_problems] == ["the data set cannot give this row"]
    assert not damaged.is_tagged and whole == tagger("Paris", on_error="report")
    with pytest.raises(ValueError, match=r"Row 0: the data set cannot give this row \(UnidentifiedImageError: "):
        list(tagger(data, num_workers=num_workers))


def test_pictures_of_any_source(tagger, tmp_path):
    path = tmp_path / "picture.png"
    picture(0).save(path)
    data = path.read_bytes()
    sources = [str(path), path, data, np.asarray(picture(0)), {"path": str(path), "bytes": None}, {"bytes": data}]
    expected = tagger({"text": "Jordan met Paris", "image": picture(0), "aux_crops": [picture(0)]})
    for source in sources:
        assert tagger({"text": "Jordan met Paris", "image": source, "aux_crops": [source]}) == expected


def test_equals_the_processor_and_the_model_by_hand(tagger):
    model, processor = tagger.model.eval(), tagger.processor
    tweets = [
        {"text": "so Jordan met Paris", "image": picture(0), "aux_crops": [picture(1), picture(2)]},
        {"text": "Paris !", "rcnn_crops": [picture(3)]},
    ]
    texts = [tweet["text"] for tweet in tweets]
    inputs = processor(
        text=texts,
        images=[tweet.get("image") for tweet in tweets],
        aux_crops=[tweet.get("aux_crops") for tweet in tweets],
        rcnn_crops=[tweet.get("rcnn_crops") for tweet in tweets],
        return_tensors="pt",
    )
    with torch.no_grad():
        outputs = model(**inputs)
        marginals = model.crf.marginals(outputs.logits, inputs["crf_mask"])
    scores = marginals.gather(-1, outputs.tag_ids.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    expected = processor.post_process_entities(outputs.tag_ids, texts, scores)
    assert any(expected)
    for entities, wanted in zip(tagger(tweets, batch_size=2), expected, strict=True):
        assert [{**entity, "score": None} for entity in entities] == [{**entity, "score": None} for entity in wanted]
        scores = [entity["score"] for entity in wanted]
        assert [entity["score"] for entity in entities] == pytest.approx(scores, rel=1e-5)


def test_the_confidence_is_the_probability_of_all_tags_a_word(tagger):
    """Of two words, by the scores of all pairs of tags; no row has it whose text is empty."""
    crf, processor = tagger.model.eval().crf, tagger.processor
    inputs = processor(text=["Jordan Paris"], return_tensors="pt")
    with torch.no_grad():
        first, second = tagger.model(**inputs).logits[inputs["crf_mask"]]
        starts = crf.start_transitions + first
        pairs = starts[:, None] + crf.transitions + (second + crf.end_transitions)[None]
    expected = pairs.flatten().softmax(0).max() ** 0.5
    result, empty = tagger(["Jordan Paris", ""], on_error="report")
    assert result.confidence == pytest.approx(expected.item(), rel=1e-4) and empty.confidence is None


def test_problems_are_reported_beside_what_could_be_done(tagger, tmp_path):
    tweets = [
        {"text": "Paris", "image": str(tmp_path / "gone.jpg"), "rcnn_crops": [picture(1)] * 3},
        {"text": " ", "aux_crops": [b""]},
        {"text": "Jordan " * 60},
    ]
    results = tagger(tweets, batch_size=3, on_error="report")
    assert [[problem.kind for problem in result.found_problems] for result in results] == [
        [NO_SUCH_FILE, TOO_MANY],
        [NO_WORDS],
        [],
    ]
    assert [[str(problem) for problem in result.found_problems] for result in results] == [
        result.get("problems", []) for result in results
    ]
    assert results[0]["problems"][0] == f"image: there is no such file ({tmp_path / 'gone.jpg'})"
    assert [result["text"] for result in results] == [tweet["text"] for tweet in tweets]
    assert results[1]["entities"] == []


def test_texts_are_tokenized_once_for_many_calls(tagger, monkeypatch):
    tweets = [*rows(), "", {"text": "Jordan " * 60}]
    expected = tagger(tweets, on_error="report", batch_size=3)
    tokenized = tagger.tokenize(tweets)
    assert [row.num_tokens for row in tokenized][-2:] == [0, 122]
    monkeypatch.setattr(tagger, "_encode", None)
    for order in (range(9), range(8, -1, -1)):
        again = tagger([tokenized[index] for index in order], on_error="report", batch_size=3)
        for index, result in zip(order, again, strict=True):
            assert_same([result["entities"]], [expected[index]["entities"]])
            assert (result["text"], result.found_problems) == (expected[index]["text"], expected[index].found_problems)
            assert result.pictures == expected[index].pictures
    assert_same([tagger(tokenized[0])], [tagger(tokenized[:1])[0]])
    with pytest.raises(ProblemError, match=f"^Row 1: text: {NO_WORDS}"):
        tagger(tokenized[6:8])


def test_rows_that_were_prepared_in_threads(tagger, monkeypatch):
    tweets = [*rows(), "", {"text": "Jordan", "image": b"no picture"}]
    expected = tagger(tweets, on_error="report", batch_size=3)
    with ThreadPoolExecutor(4) as threads:
        prepared = list(threads.map(tagger.prepare, tweets))
    monkeypatch.setattr(tagger, "_encode", None)
    monkeypatch.setattr("processing.base_pipeline.read_row_pictures", None)
    for batch_size in (3, 9):  # and again
        for result, of_row in zip(tagger(prepared, on_error="report", batch_size=batch_size), expected, strict=True):
            assert_same([result["entities"]], [of_row["entities"]])
            assert dict(result) == {**of_row, "entities": result["entities"]}
            assert (result.found_problems, result.used_pictures) == (of_row.found_problems, of_row.used_pictures)
    assert "problems" in expected[-1] and "problems" in expected[-2]


def test_what_detectors_find_is_added_to_prepared_rows(checkpoint, tiny_detector):
    of_model = pipeline(TASK, model=checkpoint, aux_detector=str(tiny_detector("grounding-dino")), aux_threshold=0.0)
    row = {"text": "Jordan met Paris", "image": picture(1, (96, 96))}
    expected = of_model(row, on_error="report")
    prepared = of_model.prepare(row)
    assert expected["crops"]["aux_crops"]
    for _ in range(2):
        (result,) = of_model([prepared], on_error="report")
        assert_same([result["entities"]], [expected["entities"]])
        assert result["crops"] == expected["crops"]


PIECES = [
    "Jordan",
    "Paris",
    " ",
    "\t",
    "\u200d",
    "\u200b",
    "e\u0301",
    "\u0301",
    "👩‍👩‍👧",
    "👍🏽",
    "ﷺ",
    "ß",
    "İ",
    "#",
]
texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.text(st.characters(codec="utf-8"), max_size=15),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, words=st.lists(texts, max_size=4))
def test_offsets(text, words, tagger):
    for result, given_text in zip(
        tagger([text, {"tokens": words}], batch_size=2, on_error="report"), (text, " ".join(words)), strict=True
    ):
        assert result["text"] == given_text
        for entity in result["entities"]:
            assert given_text[entity["start"] : entity["end"]] == entity["word"] != ""
        if "problems" in result:
            assert result["entities"] == []
            with pytest.raises(ValueError, match=r"text: the text (is empty|gives no token)"):
                tagger({"text": text} if given_text is text else {"tokens": words})


def test_entities_are_found_without_what_is_glued_to_them(tagger, monkeypatch):
    """And they point into the text as it was given, also where it comes with its words, as data of one's own do."""

    def decode(text, offsets, tags, scores):
        tags = ["B-LOC" if text[start:end] == "Phoenix" else "O" for start, end in offsets]
        return decode_entities(text, offsets, tags, scores)

    monkeypatch.setattr(base_processor, "decode_entities", decode)
    texts = ["RT @a \u200bPhoenix🔥", "我在\ufeffPhoenix市", "so (Phoenix)! http://t.co/Phoenix", "Phoenix❤️‍🔥"]
    for text in texts:
        place = text.index("Phoenix")
        _, words, offsets = split_words(text)
        for row in (text, {"text": text, "tokens": words, "offsets": offsets}):
            [entity], start = tagger(row), {"start": place, "end": place + 7, "word": "Phoenix"}
            assert entity | start == entity and tagger(row, on_error="report")["text"] == text
    with pytest.raises(ProblemError, match="offsets: must be the start and end of each of the tokens"):
        tagger({"text": "Phoenix", "tokens": ["Phoenix"], "offsets": [[0, 6]]})


def test_the_former_splitter_is_the_processor_s(make_model, make_processor):
    processor = make_processor(word_splitter="bert")
    tagger = IFAformerPipeline(make_model(processor), processor=processor, device="cpu")
    assert [row.words for row in tagger.tokenize(["Ana🔥 @bo"])] == [["Ana🔥", "@", "bo"]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("", f"text: {NO_WORDS}"),
        (" \t", NO_WORDS),
        ("\u200d", f"text: {NO_WORDS}"),
        ("\ufe0f", "text: the text gives no token: the tokenizer drops all"),
        ("half a pair \ud83d", f"text: {NO_UNICODE}"),
        ({"tokens": ["half", "\ud83d"]}, f"tokens: {NO_UNICODE}"),
        ({"tokens": []}, NO_WORDS),
        (None, rf"{NO_ROW} \(got NoneType\)"),
        (5, "got int"),
        ({}, NO_TEXT),
        ({"text": None, "image": "photo.jpg"}, rf"{NO_TEXT} \(its columns are image, text\)"),
        ({"text": 5}, rf"text: {WRONG_TEXT} \(got 5\)"),
        ({"tokens": ["Jordan", None]}, f"tokens: {WRONG_TEXT}"),
        ({"text": b"Jordan"}, f"text: {WRONG_TEXT}"),
        ({"text": "Jordan", "rcnn_crops": [picture(0)] * 3}, rf"rcnn_crops: {TOO_MANY} \(3 are given, 2 are used\)"),
        ({"text": "Jordan", "image": [picture(0)] * 2}, rf"image: {TOO_MANY} \(2 are given, 1 are used\)"),
    ],
)
def test_bad_rows(row, message, tagger):
    with pytest.raises(ValueError, match=message):
        tagger(row)
    for many in (["Jordan", row], iter(["Jordan", row])):
        with pytest.raises(ValueError, match=f"^Row 1: .*{message}"):
            list(tagger(many, batch_size=2))
    good, bad = tagger(["Jordan", row], batch_size=2, on_error="report")
    assert good == {"text": "Jordan", "entities": tagger("Jordan")}
    assert len(bad["problems"]) == 1 and not bad["problems"][0].startswith("Row")


def test_a_batch_without_any_good_row(tagger):
    assert [result["entities"] for result in tagger(["", " "], batch_size=2, on_error="report")] == [[], []]


@pytest.mark.parametrize("column", ["image", "aux_crops"])
def test_bad_pictures(column, tagger, tmp_path):
    picture(0).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:300])
    name = "image" if column == "image" else "aux_crops 0"
    for source, kind, shown in [
        (str(tmp_path / "gone.jpg"), NO_SUCH_FILE, "gone.jpg)"),
        (tmp_path / "cut.png", DAMAGED, "cut.png)"),
        (b"", EMPTY, "(bytes)"),
        (np.zeros((7, 7, 7)), WRONG_ARRAY, "(got float64 (7, 7, 7)) (ndarray)"),
        (3.5, WRONG_TYPE, "(got float)"),
    ]:
        row = {"text": "Jordan", column: source if column == "image" else [source]}
        with pytest.raises(ImageError, match=f"^Row 1: {name}: {re.escape(kind)}.*{re.escape(shown)}$"):
            tagger(["Paris", row])
        result = tagger(row, on_error="report")
        assert result["entities"] == tagger("Jordan")
        (problem,) = result.found_problems
        assert (problem.kind, problem.place) == (kind, name) and result["problems"] == [str(problem)]


def test_what_is_not_looked_at_is_logged(make_model, make_processor, caplog):
    processor = make_processor(num_aux_crops=0)
    tagger = IFAformerPipeline(make_model(processor, num_aux_crops=0), processor=processor, device="cpu")
    assert tagger({"text": "Jordan", "colour": picture(0), "aux_crops": [picture(1)]}) == tagger("Jordan")
    assert "not looked at: colour" in caplog.text and "aux_crops is not looked at" in caplog.text


def test_a_long_text_is_read_to_its_end(tagger):
    assert tagger.model.config.max_text_length == 50 and tagger.processor.max_length is None
    words = ["Jordan", "met", "Paris", "in", "New", "York"] * 500
    text = " ".join(words)
    short, long, alone = *tagger(["Jordan met Paris", text], batch_size=2), tagger(text)
    assert_same([short, long], [tagger("Jordan met Paris"), alone])
    assert "problems" not in tagger(text, on_error="report") and long[-1]["end"] > len(text) - 40
    assert all(text[entity["start"] : entity["end"]] == entity["word"] for entity in long)


def test_what_attention_cannot_follow_is_told(tagger):
    short, long = tagger(["Jordan met Paris", "Jordan met Paris " * 40], on_error="report", explain="attention")
    together = tagger(
        ["Jordan met Paris", "Jordan met Paris " * 40], on_error="report", explain="attention", batch_size=2
    )
    assert_same([together[0]["entities"]], [short["entities"]])
    assert [problem.kind for problem in together[1].found_problems] == [NOT_FOLLOWED]
    assert all("shares" in entity for entity in short["entities"])
    assert not any("shares" in entity for entity in long["entities"]) and long["entities"]
    (explained,) = tagger(["Jordan met Paris " * 40], explain="occlusion")
    assert all("shares" in entity for entity in explained)


def test_a_long_text_is_cut(tagger, make_processor, caplog):
    tagger = IFAformerPipeline(tagger.model, processor=make_processor(max_length=49), device="cpu")
    text = "Jordan " * 60
    entities = tagger([text])[0]
    problem = f"text: {CUT_OFF} (36 of 60 words)"
    assert f"Row 0: {problem}" in caplog.text
    assert tagger(text, on_error="report") == {
        "text": text,
        "entities": entities,
        "problems": [problem],
    }


def test_parameters(tagger, make_model, make_processor):
    with pytest.raises(ValueError, match="on_error must be"):
        tagger("Jordan", on_error="ignore")
    with pytest.raises(TypeError, match="crop_size"):
        tagger("Jordan", crop_size=3)
    processor = make_processor()
    reporting = IFAformerPipeline(make_model(processor), processor=processor, on_error="report", batch_size=2)
    assert "problems" in reporting([""])[0]
    with pytest.raises(ValueError, match=NO_WORDS):
        reporting([""], on_error="raise")


def test_model_and_processor_belong_together(make_config, make_model, make_processor):
    processor = make_processor()
    model = make_model(processor)
    with pytest.raises(ValueError, match="needs the processor"):
        IFAformerPipeline(model)
    with pytest.raises(ValueError, match="differ: aux_crop_size"):
        IFAformerPipeline(model, processor=make_processor(aux_crop_size=24))
    with pytest.raises(ValueError, match="tags no words"):
        IFAformerPipeline(IFAformerForRelationExtraction(make_config(num_labels=4)), processor=processor)
    IFAformerPipeline(model, processor=processor)
    assert processor.max_length is None


def test_training_mode_and_precision(tagger, tmp_path):
    expected = tagger(rows())
    tagger.model.train()
    assert tagger(rows()) == expected

    tagger.save_pretrained(tmp_path)
    half = pipeline(TASK, model=str(tmp_path), dtype=torch.bfloat16, device="cpu")
    assert half.model.dtype == torch.bfloat16 and half.model.crf.transitions.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        autocast = tagger(rows(), batch_size=3)
    for results in (half(rows(), batch_size=3), autocast):
        found, wanted = (
            {(number, *entity.values()) for number, entities in enumerate(some) for entity in plain(entities)}
            for some in (results, expected)
        )
        assert len(found & wanted) > 0.5 * len(wanted)


def test_registered_class_wins(tagger, tmp_path):
    tagger.save_pretrained(tmp_path)
    expected = tagger(rows())
    for task, trust in itertools.product((TASK, None), (True, None)):
        loaded = pipeline(task, model=str(tmp_path), trust_remote_code=trust, device="cpu")
        assert type(loaded) is IFAformerPipeline
        assert_same(loaded(rows()), expected)


def test_objects_make_a_pipeline(tagger):
    made = pipeline(TASK, model=tagger.model, processor=tagger.processor, device="cpu")
    assert type(made) is IFAformerPipeline
    assert_same(made(rows()), tagger(rows()))


def test_threads_share_a_pipeline(tagger):
    expected = tagger(rows())
    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(lambda _: tagger(rows()), range(8)):
            assert_same(results, expected)


@pytest.mark.parametrize("name", ["images", "img", "image_path", "Photo", "picture_file_name"])
def test_a_picture_under_another_name_is_told(tagger, name):
    row = {"text": "Jordan met Paris", name: picture(0)}
    with pytest.raises(ValueError, match=f"Row 0: {name}: {MISNAMED_IMAGE}"):
        tagger([row])
    assert tagger([row], on_error="report")[0].found_problems == [Problem(MISNAMED_IMAGE, name)]


def test_each_task_declares_its_pipeline(tagger, make_config, tmp_path):
    tagger.model.save_pretrained(tmp_path / "ner")
    declared = json.loads((tmp_path / "ner/config.json").read_text())["custom_pipelines"]
    assert declared == {
        TASK: {"impl": "pipeline_ifaformer.IFAformerPipeline", "pt": ["AutoModelForTokenClassification"]}
    }
    relations = IFAformerForRelationExtraction(tagger.model.config)
    relations.save_pretrained(tmp_path / "re")
    assert json.loads((tmp_path / "re/config.json").read_text())["custom_pipelines"] == {
        "multimodal-relation-extraction": {
            "impl": "pipeline_ifaformer.IFAformerRelationPipeline",
            "pt": ["AutoModelForSequenceClassification"],
        }
    }
    assert not hasattr(make_config(), "custom_pipelines")


@pytest.fixture
def detectors(tiny_detector):
    """Options for the two kinds of detectors, such that both find something in noise."""
    folders = {"aux_detector": str(tiny_detector("owlv2")), "rcnn_detector": tiny_detector("detr")}
    return {**folders, "aux_threshold": 0.01, "rcnn_threshold": 0.1, "spacy_model": "none"}


def raw_rows():
    sizes = ((120, 90), (100, 150), (140, 80))
    return [{"text": "Jordan met Paris in New York", "image": picture(n, size)} for n, size in enumerate(sizes)]


def test_a_raw_picture_in_one_call(tagger, detectors):
    row = raw_rows()[0]
    result = tagger(row, on_error="report", **detectors)
    assert list(result) == ["text", "entities", "crops"]
    assert {column: len(objects) for column, objects in result["crops"].items()} == {"aux_crops": 3, "rcnn_crops": 1}
    for crop in (crop for objects in result["crops"].values() for crop in objects):
        assert set(crop) == {"label", "score", "box"} and crop["score"] > 0.01
        assert 0 <= crop["box"][0] < crop["box"][2] <= 120 and 0 <= crop["box"][1] < crop["box"][3] <= 90
    labels = {crop["label"] for crop in result["crops"]["aux_crops"]}
    assert labels <= {"a person", "a face", "a logo", "a sports team", "a uniform", "a building", "a landscape"} | {
        *("a landmark", "a poster", "a screen", "a trophy")
    }
    without = tagger(row, on_error="report")
    assert "crops" not in without and without["entities"] != result["entities"]
    json.dumps(result)


def test_the_limit_of_pictures_is_the_processors(tagger, monkeypatch):
    monkeypatch.setattr(tagger.processor, "max_megapixels", 0.006)
    for format, problems in (("JPEG", []), ("PNG", ["image: the picture has more pixels than max_megapixels allows"])):
        file = io.BytesIO()
        picture(0, (120, 90)).save(file, format)
        result = tagger({"text": "Jordan", "image": file.getvalue()}, crops=[(70, 50, 120, 90)], on_error="report")
        assert [problem[:60] for problem in result.get("problems", ())] == [problem[:60] for problem in problems]
        assert ('viewBox="0 0 120 90"' in result._repr_html_()) is (format == "JPEG")
        if format == "JPEG":  # which is decoded smaller; boxes are in pixels of the whole picture
            assert result["crops"]["aux_crops"] == [{"box": [70.0, 50.0, 120.0, 90.0]}]


def test_the_boxes_found_can_be_given_again(tagger, detectors):
    rows = raw_rows()
    found = tagger(rows, batch_size=1, on_error="report", **detectors)
    for row, result in zip(rows, found, strict=True):
        assert tagger(row, crops=result["crops"], on_error="report") == result
    again = [
        {**row, "crops": json.loads(json.dumps(result["crops"]))} for row, result in zip(rows, found, strict=True)
    ]
    assert tagger(again, batch_size=1, on_error="report") == found


def test_proposals_for_many(tagger, detectors):
    rows = [*raw_rows(), {"text": "Jordan", "aux_crops": [picture(1)], "rcnn_crops": [picture(2)]}, "Paris", ""]
    expected = tagger(rows, batch_size=2, on_error="report", **detectors)
    assert [sorted(result.get("crops", {})) for result in expected] == [["aux_crops", "rcnn_crops"]] * 3 + [[]] * 3
    assert_same([expected[3]["entities"]], [tagger(rows[3])])
    for many, kwargs in ((rows, {"num_workers": 2}), ((row for row in rows), {}), (iter(rows), {"num_workers": 1})):
        assert list(tagger(many, batch_size=2, on_error="report", **kwargs, **detectors)) == expected


def test_phrases_are_looked_for_in_the_text_as_it_was_given(tagger, detectors, monkeypatch):
    """As in the rows of a data set, whose texts are words joined by one space where they were given as words."""
    seen = []
    monkeypatch.setattr(tagger.proposer, "phrases", lambda *args: seen.append(args) or [["a face"]] * len(args[1]))
    rows = [{"text": "Jordan  met\nParis!", "image": picture(0)}, {"tokens": ["RT", "Paris"], "image": picture(1)}]
    tagger(rows, batch_size=2, **detectors)
    assert [args[1:] for args in seen] == [(["Jordan  met\nParis!", "RT Paris"], ["MISC", "PER", "ORG", "LOC"])]


def test_detectors_are_loaded_once_for_all_calls(tagger, detectors, monkeypatch):
    loaded, load = [], ObjectDetector.from_pretrained.__func__
    monkeypatch.setattr(
        ObjectDetector,
        "from_pretrained",
        classmethod(lambda cls, name, device: loaded.append((name, str(device))) or load(cls, name, device=device)),
    )
    ready = IFAformerPipeline(tagger.model, processor=tagger.processor, device="cpu", **detectors)
    ready("Jordan")
    ready({"text": "Jordan", "image": picture(0)}, crops="none")
    assert loaded == [], "nothing to look at"
    for _ in range(2):
        ready(raw_rows(), batch_size=2, num_workers=1)
    assert loaded == [(detectors[f"{kind}_detector"], "cpu") for kind in ("aux", "rcnn")]


def test_crops_of_the_row_s_own_win(tagger, detectors):
    row = {**raw_rows()[0], "aux_crops": [picture(9)], "rcnn_crops": [picture(8)]}
    assert tagger(row, **detectors) == tagger(row)
    assert tagger(row, crops="none", **detectors) == tagger(raw_rows()[0], crops="none") != tagger(row)


def test_a_picture_without_objects(tagger, detectors):
    nothing = {**detectors, "aux_threshold": 1.0, "rcnn_threshold": 1.0}
    assert tagger(raw_rows(), on_error="report", **nothing) == tagger(raw_rows(), crops="none", on_error="report")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("gone.jpg", NO_SUCH_FILE),
        (b"", EMPTY),
        (b"no picture", UNKNOWN_FORMAT),
        (np.zeros((7, 7, 7)), WRONG_ARRAY),
        (3.5, WRONG_TYPE),
        ({"bytes": None, "path": None}, NO_SOURCE),
    ],
)
def test_bad_pictures_with_detectors(source, reason, tagger, detectors):
    for kwargs in (detectors, {"crops": [(0, 0, 5, 5)]}):
        result = tagger({"text": "Jordan", "image": source}, on_error="report", **kwargs)
        assert [problem.kind for problem in result.found_problems] == [reason]
        assert result["entities"] == tagger("Jordan")
    with pytest.raises(ImageError, match=f"^Row 0: image: {re.escape(reason)}"):
        tagger([{"text": "Jordan", "image": source}], **detectors)


def test_small_and_odd_pictures(tagger, detectors):
    for size in ((1, 1), (3, 200), (2000, 20)):
        result = tagger({"text": "Jordan", "image": picture(0, size)}, on_error="report", **detectors)
        assert "problems" not in result
        with_box = tagger({"text": "Jordan", "image": picture(0, size)}, on_error="report", crops=[(0, 0, 1, 1)])
        assert with_box["crops"] == {"aux_crops": [{"box": [0, 0, 1, 1]}]}


def test_boxes_that_do_not_fit(tagger):
    row = {"text": "Jordan", "image": picture(0)}
    assert tagger(row, crops=[(-5, -5, 90, 90)]) == tagger(row, crops=[(0, 0, 40, 30)])
    always = IFAformerPipeline(tagger.model, processor=tagger.processor, device="cpu", crops=[(0, 0, 40, 30)])
    assert always(row) == tagger(row, crops=[(0, 0, 40, 30)])
    with pytest.raises(ValueError, match=rf"^Row 1: aux_crops 0: {OUTSIDE} \(.* in a picture of 40 x 30 pixels\)"):
        tagger(["Paris", {**row, "crops": [(40, 0, 50, 9)]}])
    with pytest.raises(ValueError, match="boxes belong to one row"):
        tagger([row], crops=[(0, 0, 5, 5)])
    for crops in ("all", [(5, 5, 1, 1)], {"boxes": []}):
        with pytest.raises(ValueError, match=r"^crops: (crops are 'auto'|a box is)"):
            tagger(row, crops=crops)


def test_options_of_detectors_are_checked(tagger, make_model, make_processor, detectors, warned_anew):
    with pytest.raises(ValueError, match="aux_threshold must be from 0 to 1"):
        tagger("Jordan", aux_threshold=2)
    with pytest.raises(ValueError, match="rcnn_detector expects one of a closed set"):
        tagger(raw_rows()[0], rcnn_detector=detectors["aux_detector"])
    with pytest.raises(OSError):
        tagger(raw_rows()[0], aux_detector="no/such-detector")
    processor = make_processor(num_aux_crops=0)
    without = IFAformerPipeline(make_model(processor, num_aux_crops=0), processor=processor, device="cpu")
    assert "aux_crops" not in without(raw_rows()[0], on_error="report", **detectors)["crops"]
    assert "aux_detector is not used: the model was made without aux_crops" in warned_anew.text


def test_a_model_without_the_whole_picture_finds_crops_in_it(make_model, make_processor, detectors):
    processor = make_processor(use_whole_image=False)
    tagger = IFAformerPipeline(make_model(processor, use_whole_image=False), processor=processor, device="cpu")
    row = raw_rows()[0]
    found = tagger(row, on_error="report", **detectors)
    assert found["crops"]["aux_crops"] and found["entities"] != tagger(row["text"])


TRICKY = [
    *("", " ", "\u200d", "😀", "🏳️\u200d🌈 👩\u200d👩\u200d👧", "שלום Jordan עולם", "e\u0301 Paris\u200b"),
    *("<script>alert(1)</script>", "x" * 10_000),
]


@pytest.mark.parametrize("text", [*TRICKY, "Jordan " * 1429])
def test_tricky_texts_with_a_picture(text, tagger):
    row = {"text": text, "image": picture(0), "crops": [(0, 0, 20, 20)]}
    result = tagger(row, on_error="report", explain="attention")
    assert result["text"] == text
    for entity in result["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["word"] != ""
        shares = entity.get("shares", [{"share": 1}] if len(text) > 1000 else [])
        assert sum(share["share"] for share in shares) == pytest.approx(1, abs=1e-4)
    html = result._repr_html_()
    assert "<script" not in html and ("<svg" in html or "<img" in html)


def test_a_model_of_the_text_alone_reads_no_picture(make_model, make_processor, detectors, warned_anew, monkeypatch):
    processor = make_processor()
    tagger = IFAformerPipeline(make_model(processor, text_attends_vision=False), processor=processor, device="cpu")
    monkeypatch.setattr(tagger.proposer, "propose", None)
    row = {**raw_rows()[0], "rcnn_crops": [picture(1)]}
    assert tagger(row, **detectors) == tagger(row["text"])
    for name in ("column image", "column rcnn_crops"):
        assert f"The {name} is not looked at" in warned_anew.text
    assert "aux_detector is not used" in warned_anew.text


def test_a_result_shows_the_picture_that_the_caller_holds(tagger):
    row = {"text": "Jordan met Paris", "image": picture(0)}
    for result in (tagger(row), tagger([row])[0], tagger(row, on_error="report")):
        assert result.pictures["image"] == [row["image"]] and "<image" in result._repr_html_()
    (streamed,) = tagger(iter([row]))
    assert not streamed.pictures and streamed == tagger(row) and "<image" not in streamed._repr_html_()
    assert tagger("Jordan").pictures == {"image": [], "aux_crops": [], "rcnn_crops": []}


def colours_beside_shares(result, name=0):
    """Of each crop that is shown, how red it is, and its share for a name as it stands beside it."""
    article = ElementTree.fromstring(f"<div>{result._repr_html_()}</div>").find("article")
    found = []
    for item in article.iter("li"):
        for shown in item.iter("img"):
            source = shown.get("src").removeprefix("data:image/jpeg;base64,")
            red = Image.open(io.BytesIO(base64.b64decode(source))).getpixel((5, 5))[0]
            found.append((red, "".join(item.find(f"div/div[@class='share of-{name}']").itertext())))
    return found


def test_a_crop_that_cannot_be_read_moves_no_share_to_another_crop(tagger):
    dark, bright = (Image.new("RGB", (30, 20), (red, 0, 0)) for red in (60, 250))
    for crops in ([dark, bright], [b"", dark, bright], [dark, b"", bright]):
        row = {"text": "Jordan met Paris", "image": picture(0), "aux_crops": crops}
        result = tagger(row, on_error="report", explain="occlusion")
        entity = result["entities"][0]
        entity["shares"] = [  # numbers that are told apart when they are shown
            {**share, "share": {"aux_crops 0": 0.11, "aux_crops 1": 0.77}.get(share["source"], 0.06)}
            for share in entity["shares"]
        ]
        ((first, of_first), (second, of_second)) = colours_beside_shares(result)
        assert first < 100 < 200 < second and (of_first, of_second) == ("11 %", "77 %")
        assert len(result.get("problems", ())) == len(crops) - 2


def test_crops_that_the_model_does_not_see_are_not_shown(tagger):
    row = {"text": "Jordan met Paris", "image": picture(0), "rcnn_crops": [picture(1)] * 9}
    seen = tagger(row, explain="attention", on_error="report")
    limit = tagger.processor.picture_limits["rcnn_crops"]
    assert len(seen.pictures["rcnn_crops"]) == limit and seen._repr_html_().count("<img") == limit
    for result in (tagger(row, crops="none"), tagger({**row, "crops": "none"}, on_error="report")):
        assert "<img" not in result._repr_html_() and "<image" in result._repr_html_()
    boxes = tagger(row, crops=[(0, 0, 9, 9)])  # these are looked at in their place
    assert "<img" not in boxes._repr_html_() and boxes._repr_html_().count("<use") == 1


PROGRAM = """
import json, sys
from transformers import AutoModelForTokenClassification, AutoProcessor, pipeline

folders, load = sys.argv[1:], dict(trust_remote_code=True)
for folder, name in ((folders[0], "again"), ("user/name", "hub_again")):
    AutoModelForTokenClassification.from_pretrained(folder, **load).save_pretrained(name)
    AutoProcessor.from_pretrained(folder, **load).save_pretrained(name)
rows = json.load(open("rows.json"))
results = []
for folder in (*folders, "user/name", "again", "hub_again"):
    named = pipeline("multimodal-token-classification", model=folder, **load)
    unnamed = pipeline(model=folder, device="cpu", **load)
    results += [named(rows), unnamed(rows, batch_size=len(rows)), list(unnamed(iter(rows)))]
    try:
        unnamed([{"text": "Jordan", "image": "gone.jpg"}])
    except ValueError as error:
        results.append(f"{type(error).__name__}: {error}")
unnamed.save_pretrained("and_again")
results.append(pipeline(model="and_again", **load)(rows))
assert not {"modeling_ifaformer", "processing"} & set(sys.modules)
print(json.dumps(results))
"""


def test_travels_with_every_save(tagger, run_without_project, tmp_path):
    tagger.model.save_pretrained(tmp_path / "saved")
    tagger.processor.save_pretrained(tmp_path / "saved")
    tagger.save_pretrained(tmp_path / "pipeline")
    features = tagger.processor(text=["Jordan met"], word_labels=[["B-PER", "O"]])
    Trainer(
        tagger.model,
        TrainingArguments(str(tmp_path), max_steps=1, save_steps=1, learning_rate=0.0, use_cpu=True, report_to=[]),
        tagger.processor.data_collator,
        [{name: values[0] for name, values in features.items()}],
        processing_class=tagger.processor,
    ).train()
    folders = [tmp_path / name for name in ("saved", "pipeline", "checkpoint-1")]

    def code(folder):
        return {path.name: path.read_bytes() for path in folder.glob("*.py")}

    assert "pipeline_ifaformer.py" in code(folders[0])
    repository = tmp_path / "home/hub/models--user--name"  # as the Hub's client keeps it
    shutil.copytree(folders[0], repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0" * 40)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    picture(0).save(elsewhere / "picture.png")
    tweets = [{"text": "Jordan met Paris", "image": str(elsewhere / "picture.png")}, "the team of Chelsea playing"]
    (elsewhere / "rows.json").write_text(json.dumps(tweets))

    result = run_without_project(PROGRAM, *folders, cwd=elsewhere)
    expected = tagger(tweets)
    *results, last = json.loads(result.stdout)
    for first in range(0, len(results), 4):
        *theirs, error = results[first : first + 4]
        for entities in theirs:
            assert_same(entities, expected)
        assert error == "ImageError: Row 0: image: there is no such file (gone.jpg)"
    assert_same(last, expected)

    for folder in (*folders, *(elsewhere / name for name in ("again", "hub_again", "and_again"))):
        assert code(folder) == code(folders[0])


class TestContexts:
    @pytest.fixture
    def reader(self, make_model, make_processor):
        processor = make_processor(max_context_length=6)
        return IFAformerPipeline(make_model(processor), processor=processor, device="cpu")

    def test_a_row_may_have_one(self, reader, caplog):
        text = "Jordan met Paris"
        row = {"text": text, "context": ["the team", {"kind": "ocr", "text": "NY"}]}
        given = [row, {"text": text}, {"tokens": text.split(), "context": None}]
        with_context, without, of_words = reader(given, batch_size=3)
        assert "not looked at" not in caplog.text
        inputs = reader.processor(text, context=row["context"], return_tensors="pt")
        outputs = reader.model(**inputs)
        scores = reader.model.crf.marginals(outputs.logits, inputs["crf_mask"])
        scores = scores.gather(-1, outputs.tag_ids.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        expected = reader.processor.post_process_entities(outputs.tag_ids, text, scores.detach())
        assert [dict(entity) for entity in with_context] == [pytest.approx(entity) for entity in expected[0]]
        assert with_context != without and [*without] == [*of_words]
        for entity in with_context:
            assert text[entity["start"] : entity["end"]] == entity["word"]

    def test_what_is_cut_and_what_is_none_are_reported(self, reader):
        rows = [{"text": "Jordan", "context": "the " * 9}, {"text": "Jordan", "context": 5}, {"text": "Jordan"}]
        cut, wrong, right = reader(rows, on_error="report")
        assert [(problem.kind, problem.column) for problem in cut.found_problems] == [(CONTEXT_CUT, "context")]
        assert "(3 tokens)" in cut["problems"][0]
        assert [problem.kind for problem in wrong.found_problems] == [WRONG_CONTEXT] and wrong["entities"] == []
        assert "problems" not in right
        with pytest.raises(ProblemError, match="context is a text, or a list"):
            reader({"text": "Jordan", "context": 5})

    def test_a_model_that_reads_none_says_so(self, tagger, warned_anew):
        row = {"text": "Jordan met Paris"}
        assert [*tagger({**row, "context": 5})] == [*tagger(row)]
        assert "The column context is not looked at, since the model has learnt to read none" in warned_anew.text
        assert "Columns that are not looked at" not in warned_anew.text

    def test_a_processor_of_before_goes_on(self, tagger, monkeypatch):
        row = {"text": "Jordan met Paris", "context": "the team"}
        expected = tagger(row)
        monkeypatch.delattr(tagger.processor, "max_context_length")
        monkeypatch.setattr(type(tagger.processor), "text_features", _text_features_of_before)
        assert [*tagger(row)] == [*expected]


def _text_features_of_before(processor, encoded):
    """As the processor had it before there were contexts."""
    data = token_features(processor.tokenizer, encoded, None, False, ())
    return data | {"crf_mask": [scored_positions(example.word_ids, "word") for example in encoded]}
