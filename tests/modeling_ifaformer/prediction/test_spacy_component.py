"""The entities of spaCy's docs are those of the pipeline, and what stood there before stays."""

import pytest
import spacy
from PIL import Image
from spacy.tokens import Doc

import ifaformer_commands.options.spacy_factory  # noqa: F401  (registers the component, as the entry point does)
from modeling_ifaformer.prediction import load_tagger
from modeling_ifaformer.prediction.spacy_component import row_of
from processing.problems import ProblemError


TEXTS = ("Jordan met  Paris in New York City.", "@ Chelsea ! the team", "unaffable  \n playing")


@pytest.fixture(scope="module")
def make_nlp(checkpoint):
    def make(**config):
        nlp = spacy.blank("en")
        nlp.add_pipe("ifaformer", config={"model": checkpoint, "device": "cpu", **config})
        return nlp

    return make


@pytest.fixture(scope="module")
def nlp(make_nlp):
    return make_nlp()


@pytest.fixture(scope="module")
def tagger(checkpoint):
    return load_tagger(checkpoint, device="cpu")


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (40, 30), "red").save(path)
    return str(path)


def found(doc):
    return [(ent.start_char, ent.end_char, ent.label_, round(ent._.score, 4)) for ent in doc.ents]


def expected(tagger, doc):
    """What the pipeline finds in a doc, of whose tokens white space is none."""
    entities = tagger(row_of(doc))
    return [(of["start"], of["end"], of["entity_group"], round(of["score"], 4)) for of in entities]


def test_a_doc_gets_the_entities_of_the_pipeline_with_its_picture(nlp, tagger, picture):
    changed = 0
    for text in TEXTS:
        alone, with_picture = nlp(text), nlp.make_doc(text)
        with_picture._.image = picture
        with_picture = nlp(with_picture)
        assert alone.ents and found(alone) == expected(tagger, alone)
        assert found(with_picture) == expected(tagger, with_picture)
        changed += found(alone) != found(with_picture)
    assert changed, "the picture is looked at"
    assert set(nlp.pipe_labels["ifaformer"]) == {"PER", "LOC", "ORG", "MISC"}
    assert nlp.analyze_pipes()["summary"]["ifaformer"]["assigns"][0] == "doc.ents"


def test_white_space_and_empty_docs(nlp):
    doc = nlp.make_doc("Jordan \n met")
    assert [token.text for token in doc] == ["Jordan", "\n ", "met"]
    assert row_of(doc) == {
        "text": "Jordan \n met",
        "tokens": ["Jordan", "met"],
        "offsets": [(0, 6), (9, 12)],
        "image": None,
    }
    # Of an invisible character the tokenizer keeps nothing.
    texts = ["", " \n ", "\u200b", "Paris"]
    docs = [nlp(text) for text in texts], list(nlp.pipe(texts))
    for one in docs:
        assert [doc.text for doc in one] == texts and [bool(doc.ents) for doc in one] == [False, False, False, True]


def test_pipe_gives_in_order_what_single_calls_give(make_nlp, picture, monkeypatch):
    nlp = make_nlp(batch_size=2)
    tagger = nlp.get_pipe("ifaformer").tagger
    sizes, forward = [], tagger.model.forward

    def counted(*args, **inputs):
        sizes.append(len(inputs["input_ids"]))
        return forward(*args, **inputs)

    monkeypatch.setattr(tagger.model, "forward", counted)

    def docs():
        for number in range(7):
            doc = nlp.make_doc(TEXTS[number % 3] if number != 4 else "")
            doc._.image = picture if number % 2 else None
            yield doc

    at_once = list(nlp.pipe(docs(), batch_size=5))
    assert sizes == [2, 2, 2], "five docs at a time without the empty one, of which the model reads two at once"
    assert [found(doc) for doc in at_once] == [found(nlp(doc)) for doc in docs()]
    tuples = nlp.pipe([(text, number) for number, text in enumerate(TEXTS)], as_tuples=True)
    assert [(doc.text, number) for doc, number in tuples] == [(text, number) for number, text in enumerate(TEXTS)]


@pytest.mark.parametrize("overwrite", [False, True])
def test_entities_that_were_set_before(make_nlp, overwrite):
    nlp = make_nlp(overwrite_ents=overwrite)
    text = "Jordan met Paris and Chelsea"
    alone = {(ent.start, ent.end): ent.label_ for ent in nlp(text).ents}
    (start, end), *_ = alone
    ruler = nlp.add_pipe("entity_ruler", before="ifaformer")
    ruler.add_patterns([{"label": "RULE", "pattern": nlp.make_doc(text)[start : end + 1].text}])
    doc = nlp(text)
    labels = {(ent.start, ent.end): ent.label_ for ent in doc.ents}
    if overwrite:
        assert labels == alone
    else:
        overlap = {place for place in alone if place[0] < end + 1 and place[1] > start}
        assert labels == {place: of for place, of in alone.items() if place not in overlap} | {
            (start, end + 1): "RULE"
        }
        assert doc.ents[0]._.score is None, "a score is one of the model's"


def test_a_bad_picture_goes_to_the_error_handler(make_nlp, tmp_path):
    nlp = make_nlp()
    (tmp_path / "broken.png").write_bytes(b"no picture")

    def docs():
        for text, image in (("Jordan", None), ("Paris", tmp_path / "broken.png"), ("Chelsea", tmp_path / "none.png")):
            doc = nlp.make_doc(text)
            doc._.image = image and str(image)
            yield doc

    _, broken, _ = docs()
    with pytest.raises(ProblemError, match=r"image: .*broken\.png"):
        nlp(broken)
    with pytest.raises(ProblemError, match=r"image: .*broken\.png"):
        list(nlp.pipe(docs()))
    seen = []
    nlp.set_error_handler(lambda name, component, of, error: seen.append((name, of[0].text, str(error))))
    assert [doc.text for doc in nlp.pipe(docs())] == ["Jordan"]
    (first, second), expected_name = seen, "ifaformer"
    assert first[:2] == (expected_name, "Paris") and "broken.png" in first[2]
    assert second[:2] == (expected_name, "Chelsea") and "there is no such file" in second[2]


def test_an_error_of_the_model_goes_to_the_error_handler(make_nlp, monkeypatch):
    nlp = make_nlp()

    def fail(*args, **kwargs):
        raise RuntimeError("no memory")

    monkeypatch.setattr(nlp.get_pipe("ifaformer").tagger.model, "forward", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        list(nlp.pipe(TEXTS))
    seen = []
    nlp.set_error_handler(lambda name, component, docs, error: seen.append((len(docs), str(error))))
    assert list(nlp.pipe(TEXTS)) == [] and seen == [(3, "no memory")]


def test_a_pipeline_that_is_saved_names_the_model(make_nlp, tmp_path):
    nlp = make_nlp(threshold={"PER": 0.5}, batch_size=3)
    nlp.to_disk(tmp_path / "nlp")
    loaded = spacy.load(tmp_path / "nlp")
    assert loaded.get_pipe("ifaformer").batch_size == 3
    assert [found(doc) for doc in loaded.pipe(TEXTS)] == [found(doc) for doc in nlp.pipe(TEXTS)]
    again = Doc(loaded.vocab).from_bytes(nlp(TEXTS[0]).to_bytes())
    assert found(again) == found(nlp(TEXTS[0])), "scores are saved with the doc"


def test_options(make_nlp, relation_checkpoint, caplog):
    scores = [ent._.score for doc in make_nlp().pipe(TEXTS) for ent in doc.ents]
    above = [ent._.score for doc in make_nlp(threshold=0.6).pipe(TEXTS) for ent in doc.ents]
    assert above == pytest.approx([score for score in scores if score >= 0.6]) and len(above) < len(scores)
    for config, message in (
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"threshold": 2.0}, "threshold must be a number from 0 to 1"),
        ({"model": relation_checkpoint}, r"a relation model \(task re\), but an entity model"),
    ):
        with pytest.raises(ValueError, match=message):
            make_nlp(**config)
    nlp = make_nlp()
    nlp.get_pipe("ifaformer").tagger.processor.max_length = 4
    assert nlp(TEXTS[0]) and "words of it are cut off (" in caplog.text and "Jordan met" in caplog.text
