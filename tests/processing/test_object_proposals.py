import io
import math
import pickle
import sys
import types
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import BertConfig

from processing import IFAformerPipeline, object_proposals
from processing.crops import prepare_crops
from processing.images import load_image
from processing.jobs.digests import checkpoint_digest
from processing.object_proposals import (
    MIN_BOX_SIDE,
    DetectedObject,
    ObjectDetector,
    ObjectProposer,
    PhraseFinder,
    ProposalOptions,
    encode_crops,
    installed_spacy_model,
    is_zero_shot_checkpoint,
    label_phrases,
    non_maximum_suppression,
)
from processing.rendering import framed_picture
from processing.rows.row_features import ner_features


def noise(number, size=(120, 90)):
    """Coarse, so that JPEG keeps it nearly."""
    small = np.random.default_rng(number).integers(0, 256, (size[1] // 10, size[0] // 10, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def options(tiny_detector):
    folders = {"aux_detector": str(tiny_detector("owlv2")), "rcnn_detector": str(tiny_detector("detr"))}
    return {**folders, "aux_threshold": 0.01, "rcnn_threshold": 0.1, "spacy_model": "none"}


@pytest.fixture
def counted_loads(monkeypatch):
    """The detectors loaded, in order."""
    loaded, load = [], ObjectDetector.from_pretrained.__func__

    def from_pretrained(cls, name, **kwargs):
        loaded.append(name)
        return load(cls, name, **kwargs)

    monkeypatch.setattr(ObjectDetector, "from_pretrained", classmethod(from_pretrained))
    return loaded


@pytest.fixture
def prepared(tmp_path, options):
    """Raw rows, and what `prepare_crops` makes of them."""
    features = ner_features(["O", "B-PER", "B-LOC"])
    encoded = datasets.Image(decode=False)
    features["image"], features["aux_crops"], features["rcnn_crops"] = encoded, [encoded], [encoded]
    rows = []
    for index in range(4):
        file = io.BytesIO()
        noise(index, (120, 90) if index % 2 else (100, 150)).save(file, "PNG")
        row = {"id": str(index), "image_id": None, "tokens": ["Jordan", "met", "Paris"], "ner_tags": [1, 0, 2]}
        rows.append({**row, "image": {"bytes": file.getvalue(), "path": None}, "aux_crops": [], "rcnn_crops": []})
    data = datasets.DatasetDict({"train": datasets.Dataset.from_list(rows, features=features)})
    prepare_crops(data, tmp_path / "crops", ProposalOptions(**options), name="mine", batch_size=2)
    loaded = datasets.load_dataset(str(tmp_path / "crops"), split="train", cache_dir=str(tmp_path / "cache"))
    return data["train"], loaded


def test_the_bytes_are_those_that_prepare_crops_stores(prepared, options):
    _, stored = prepared
    stored = stored.cast_column("aux_crops", [datasets.Image(decode=False)])
    proposer, pictures = ObjectProposer("cpu"), [row["image"] for row in stored]
    assert sum(len(crops) for crops in stored["aux_crops"]) >= 4
    for start in (0, 2):
        phrases = proposer.phrases(ProposalOptions(**options), ["Jordan met Paris"] * 2, ["PER", "LOC"])
        found = proposer.propose(ProposalOptions(**options), "aux", pictures[start : start + 2], phrases)
        for index, objects in enumerate(found, start):
            crops = encode_crops(pictures[index], [found.box for found in objects])
            assert crops == [crop["bytes"] for crop in stored[index]["aux_crops"]]


def test_the_pipeline_gives_the_model_the_same_pixels(prepared, options, make_model, make_processor):
    raw, stored = prepared
    processor = make_processor(tags=["O", "B-PER", "B-LOC"])
    tagger = IFAformerPipeline(make_model(processor), processor=processor, device="cpu", on_error="report")
    seen = []
    tagger.model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    proposed = list(tagger(raw, batch_size=2, **options))
    given = [
        {key: value for key, value in result.items() if key != "problems"} for result in tagger(stored, batch_size=2)
    ]
    for ours, theirs in zip(seen[:2], seen[2:], strict=True):
        assert ours.keys() == theirs.keys() and {"aux_pixel_values", "rcnn_pixel_values"} <= ours.keys()
        assert all((ours[name] == theirs[name]).all() for name in ours)
    for ours, theirs in zip(proposed, given, strict=True):
        assert ours["entities"] == theirs["entities"]
        for kind in ("aux", "rcnn"):
            boxes = [[crop["box"] for crop in result["crops"][f"{kind}_crops"]] for result in (ours, theirs)]
            # the model takes 2 rcnn crops, the data set has 3; the file holds float32
            assert len(boxes[0]) >= 1 and np.allclose(*boxes)


def test_a_detector_is_loaded_once_and_on_first_use(options, counted_loads):
    proposer, picture = ObjectProposer("cpu"), noise(0)
    assert counted_loads == []
    for threshold in (0.01, 0.02):
        changed = ProposalOptions(**{**options, "aux_threshold": threshold})
        proposer.propose(changed, "aux", [picture], [["a face"]])
    assert counted_loads == [options["aux_detector"]]
    copy = pickle.loads(pickle.dumps(proposer))
    assert len(pickle.dumps(proposer)) < 1000
    found = [one.propose(changed, "aux", [picture], [["a face"]]) for one in (proposer, copy)]
    assert found[0] == found[1] and len(counted_loads) == 2


def test_a_detector_as_an_object(options, tiny_detector, counted_loads):
    detector = ObjectDetector.from_pretrained(tiny_detector("detr"), device="cpu")
    by_name = ObjectProposer("cpu").propose(ProposalOptions(**options), "rcnn", [noise(0)], [None], max_objects=2)
    by_object = ObjectProposer("cpu").propose(
        ProposalOptions(**{**options, "rcnn_detector": detector}), "rcnn", [noise(0)], [None], max_objects=2
    )
    assert by_name == by_object and 1 <= len(by_name[0]) <= 2
    assert len(counted_loads) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aux_threshold": 1.5}, "^aux_threshold must be from 0 to 1, got 1.5"),
        ({"iou_threshold": -1}, "^iou_threshold must be from 0 to 1"),
        ({"max_rcnn_crops": 0}, "^max_rcnn_crops must be at least 1, got 0"),
        ({"phrases": [" .", "\t"]}, "^phrases must name at least one"),
    ],
)
def test_options_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        ProposalOptions(**changes)


def test_a_detector_of_the_wrong_kind(options):
    swapped = ProposalOptions(aux_detector=options["rcnn_detector"], rcnn_detector=options["aux_detector"])
    for kind, expected in (("aux", "a zero-shot detector"), ("rcnn", "one of a closed set")):
        with pytest.raises(ValueError, match=f"^{kind}_detector expects {expected}"):
            ObjectProposer("cpu").propose(swapped, kind, [noise(0)], [["a face"]])


def test_phrases(monkeypatch):
    monkeypatch.setattr(object_proposals, "installed_spacy_model", lambda: None)
    given, of_labels = PhraseFinder(["dog"], None, []), PhraseFinder(None, None, ["PER"])
    assert given(["a", "b"]) == [["dog"], ["dog"]] and given.settings == {"given": ["dog"]}
    assert of_labels(["a"]) == [["a person", "a face"]] and of_labels.settings == {"label set": ["a person", "a face"]}
    with pytest.raises(ValueError, match="name no entity types"):
        PhraseFinder(None, "none", [])


def test_crops_hold_every_pixel_that_the_box_touches():
    picture = Image.fromarray(np.arange(10 * 20 * 3, dtype=np.uint8).reshape(10, 20, 3))
    boxes = [(2.0, 3.0, 6.0, 7.0), (1.5, 0.2, 6.1, 9.9), (0.0, 0.0, 20.0, 10.0), (15.2, 4.0, 19.99, 10.0)]
    parts = [(2, 3, 6, 7), (1, 0, 7, 10), (0, 0, 20, 10), (15, 4, 20, 10)]
    for crop, part in zip(encode_crops(picture, boxes), parts, strict=True):
        file = io.BytesIO()
        picture.crop(part).save(file, format="JPEG", quality=95, subsampling=0)
        assert crop == file.getvalue()


def test_boxes_are_in_pixels_of_the_whole_picture(monkeypatch):
    """A JPEG above the limit is decoded with half of its sides."""
    file = io.BytesIO()
    noise(0).save(file, "JPEG")
    image = load_image(file.getvalue(), max_megapixels=0.006)
    assert image.size == (60, 45)
    assert encode_crops(image, [(20, 30, 41, 60)]) == encode_crops(
        Image.fromarray(np.array(image)), [(10, 15, 21, 30)]
    )
    found = DetectedObject("dog", 0.9, (10.0, 15.0, 20.5, 30.0))
    monkeypatch.setattr(
        ObjectDetector,
        "from_pretrained",
        lambda *args, **kwargs: SimpleNamespace(
            is_zero_shot=True, detect=lambda images, *args, **kwargs: [[found]] * len(images)
        ),
    )
    objects = ObjectProposer("cpu").propose(ProposalOptions(aux_detector="x"), "aux", [image, noise(0)], [["dog"]] * 2)
    assert objects == [[found._replace(box=(20.0, 30.0, 41.0, 60.0))], [found]]
    figure = framed_picture(image, "", [("", objects[0][0].box, "red")])
    assert 'viewBox="0 0 120 90"' in figure and 'x="20" y="30" width="21" height="30"' in figure


ZERO_SHOT = ("grounding-dino", "mm-grounding-dino", "owlvit", "owlv2")
CLOSED_SET = ("detr", "rt_detr")
PHRASES = [["a person", "a face"], ["dog"], ["a logo", "car", "dog"]]


@pytest.fixture(scope="module")
def detectors(tiny_detector):
    """Detectors by model type, loaded once."""
    return {name: ObjectDetector.from_pretrained(tiny_detector(name), device="cpu") for name in ZERO_SHOT + CLOSED_SET}


@pytest.fixture(scope="module")
def pictures():
    """Noise of three shapes, so that padding and scaling show."""
    random = np.random.default_rng(0)
    sizes = ((270, 360), (600, 300), (200, 200))
    return [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in sizes]


def detect(detector, pictures, phrases=PHRASES, **kwargs):
    kwargs = {"threshold": 0, "iou_threshold": 0.5, "max_objects": 100, **kwargs}
    return detector.detect(pictures, phrases if detector.is_zero_shot else None, **kwargs)


def iou(a, b):
    """Of two boxes, one number at a time."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def slow_suppression(boxes, scores, threshold):
    kept = []
    for index in sorted(range(len(boxes)), key=lambda index: (-scores[index], index)):
        if all(iou(boxes[index], boxes[better]) <= threshold for better in kept):
            kept.append(index)
    return kept


side = st.integers(1, 12)
box = st.tuples(st.integers(0, 20), st.integers(0, 20), side, side).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@settings(deadline=None)
@given(st.lists(st.tuples(box, st.integers(0, 5)), max_size=25), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
def test_suppression_equals_a_slow_one(scored, threshold):
    boxes = np.array([box for box, _ in scored], dtype=float).reshape(-1, 4)
    scores = np.array([score for _, score in scored], dtype=float)
    expected = slow_suppression(boxes.tolist(), scores.tolist(), threshold)
    assert non_maximum_suppression(boxes, scores, threshold) == expected
    assert non_maximum_suppression(boxes, scores, threshold, max_boxes=2) == expected[:2]


@pytest.mark.parametrize("name", ZERO_SHOT + CLOSED_SET)
def test_objects(detectors, pictures, name):
    detector = detectors[name]
    assert detector.is_zero_shot == (name in ZERO_SHOT)
    found = detect(detector, pictures)
    assert len(found) == 3 and all(found)
    for picture, phrases, objects in zip(pictures, PHRASES, found, strict=True):
        labels = phrases if detector.is_zero_shot else ["person", "dog", "car", "tie", "umbrella"]
        assert [o.score for o in objects] == sorted((o.score for o in objects), reverse=True)
        for index, (label, score, (xmin, ymin, xmax, ymax)) in enumerate(objects):
            assert label in labels
            assert 0 <= score <= 1
            assert 0 <= xmin <= xmax - MIN_BOX_SIDE and xmax <= picture.width
            assert 0 <= ymin <= ymax - MIN_BOX_SIDE and ymax <= picture.height
            assert all(iou(objects[index].box, other.box) <= 0.5 + 1e-6 for other in objects[:index])
    assert found == detect(detector, pictures), "not deterministic"
    assert detect(detector, pictures, max_objects=1) == [objects[:1] for objects in found]


@pytest.mark.parametrize("name", ("grounding-dino", "owlvit", "owlv2", "rt_detr"))
def test_threshold_and_overlap(detectors, pictures, name):
    everything = detect(detectors[name], pictures, iou_threshold=1)
    scores = sorted(o.score for objects in everything for o in objects)
    threshold = scores[len(scores) // 2]
    above = [[o for o in objects if o.score > threshold] for objects in everything]
    assert 0 < sum(map(len, above)) < len(scores)
    assert detect(detectors[name], pictures, threshold=threshold, iou_threshold=1) == above
    boxes = [[o.box for o in objects] for objects in everything]
    kept = [slow_suppression(b, [o.score for o in e], 0.1) for b, e in zip(boxes, everything, strict=True)]
    found = detect(detectors[name], pictures, iou_threshold=0.1)
    assert found == [[objects[i] for i in indices] for objects, indices in zip(everything, kept, strict=True)]


@pytest.mark.parametrize("name", ("owlvit", "owlv2", "rt_detr"))
def test_a_picture_does_not_depend_on_its_batch(detectors, pictures, name):
    together = detect(detectors[name], pictures)
    for picture, phrases, objects in zip(pictures, PHRASES, together, strict=True):
        (alone,) = detect(detectors[name], [picture], [phrases])
        assert [o.label for o in alone] == [o.label for o in objects]
        assert np.allclose([o.box for o in alone], [o.box for o in objects], atol=1e-3)


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_phrases_decide_the_result(detectors, pictures, name):
    one, two = detect(detectors[name], [pictures[0]] * 2, [["a person"], ["dog"]])
    assert {o.label for o in one} == {"a person"} and {o.label for o in two} == {"dog"}
    assert [o.score for o in one] != [o.score for o in two]


@pytest.mark.parametrize("name", ("grounding-dino", "owlv2"))
def test_phrases_of_any_form(detectors, pictures, name):
    """Capitals, full stops, more words than the text tower has positions."""
    (objects,) = detect(detectors[name], pictures[:1], [["A Person. ", " ", "dog " * 100]])
    assert {o.label for o in objects} <= {"a person", ("dog " * 100).strip()}
    assert objects == detect(detectors[name], pictures[:1], [["a person", "dog " * 100]])[0]


@pytest.mark.parametrize("name", ("grounding-dino", "mm-grounding-dino"))
def test_an_object_has_the_phrase_of_its_best_token(detectors, pictures, name):
    detector, phrases = detectors[name], ["a person", "dog", "a logo"]
    inputs = detector.processor(images=pictures[:1], text=[phrases], padding=True, return_tensors="pt")
    with torch.inference_mode():
        probabilities = detector.model(**inputs).logits[0].sigmoid()  # (num_boxes, max_text_len)
    # [CLS] a person . dog . a logo . [SEP]
    of_token = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
    expected = {round(float(p.max()), 5): phrases[of_token[int(p.argmax())]] for p in probabilities}
    (objects,) = detect(detector, pictures[:1], [phrases], iou_threshold=1)
    assert objects
    assert [o.label for o in objects] == [expected[round(o.score, 5)] for o in objects]


@pytest.mark.parametrize("name", ("owlv2", "detr"))
def test_boxes_are_those_of_the_model(detectors, pictures, name):
    """The best box, scaled by hand: DETR's are parts of the picture, OWLv2's of the square it is filled up to."""
    detector, picture = detectors[name], pictures[0]
    text = {"text": [PHRASES[0]], "padding": "max_length", "max_length": 16} if detector.is_zero_shot else {}
    inputs = detector.processor(images=[picture], return_tensors="pt", **text)
    with torch.inference_mode():
        outputs = detector.model(**inputs)
    logits = outputs.logits[0]
    scores = (logits.sigmoid() if detector.is_zero_shot else logits.softmax(-1)[:, :-1]).max(-1).values
    size = (max(picture.size),) * 2 if name == "owlv2" else picture.size
    expected = []
    for score, (x, y, width, height) in zip(scores.tolist(), outputs.pred_boxes[0].tolist(), strict=True):
        xmin, xmax = (min(max((x + sign * width / 2) * size[0], 0), picture.width) for sign in (-1, 1))
        ymin, ymax = (min(max((y + sign * height / 2) * size[1], 0), picture.height) for sign in (-1, 1))
        if min(xmax - xmin, ymax - ymin) >= MIN_BOX_SIDE:
            expected.append((score, (xmin, ymin, xmax, ymax)))
    ((best,),) = detect(detector, [picture], PHRASES[:1], max_objects=1)
    assert best.score == pytest.approx(max(expected)[0], abs=1e-6)
    assert best.box == pytest.approx(max(expected)[1], abs=1e-3)


@pytest.mark.parametrize("name", ZERO_SHOT + CLOSED_SET)
@pytest.mark.parametrize("size", [(1, 1), (3, 60), (4, 4), (4, 1300), (300, 5), (600_000, 4)])
def test_pictures_of_odd_shapes(detectors, pictures, name, size):
    odd = Image.new("RGB", size, "red")
    found = detect(detectors[name], [odd, pictures[2], odd])
    assert found[0] == [] or min(size) >= MIN_BOX_SIDE
    for _, _, (xmin, ymin, xmax, ymax) in found[0]:
        assert 0 <= xmin < xmax <= size[0] and 0 <= ymin < ymax <= size[1]
    assert detect(detectors[name], [odd], [["dog"]]) is not None


def test_no_pictures(detectors):
    assert detectors["owlv2"].detect([], []) == [] == detectors["detr"].detect([])


@pytest.mark.parametrize(
    ("name", "phrases", "message"),
    [
        ("owlv2", None, "Expected a list of phrases for each of 3 pictures, got None"),
        ("owlv2", [["a person"]], "for each of 3 pictures, got 1 lists"),
        ("grounding-dino", [["a"], [" ."], ["b"]], "Picture 1 comes without a phrase"),
        ("detr", PHRASES, "DetrForObjectDetection has a closed set of labels and takes no phrases"),
    ],
)
def test_wrong_phrases(detectors, pictures, name, phrases, message):
    with pytest.raises(ValueError, match=message):
        detectors[name].detect(pictures, phrases)


def test_boxes_that_are_no_numbers_and_specks_are_left_out(detectors, pictures, monkeypatch):
    detector = detectors["detr"]
    boxes = torch.tensor([[math.nan] * 4, [-9, 2, 20, 30], [5, 5, 8.9, 50], [10, 10, 500, 400]])
    results = [{"scores": torch.tensor([0.9, 0.8, 0.7, math.nan]), "labels": torch.arange(4), "boxes": boxes}]
    monkeypatch.setattr(detector.processor, "post_process_object_detection", lambda *_, **__: results)
    assert [(o.label, o.box) for o in detect(detector, pictures[:1])[0]] == [("dog", (0, 2, 20, 30))]


def test_not_a_detector(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    for function in (ObjectDetector.from_pretrained, is_zero_shot_checkpoint):
        with pytest.raises(
            ValueError, match=r"expected a zero-shot detector \(model type grounding-dino.*got.*'bert'"
        ):
            function(tmp_path)


def test_checkpoint_digest_follows_the_content(tiny_detector, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tiny_detector("detr").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    before = checkpoint_digest(tiny_detector("detr"))
    assert checkpoint_digest(copy) == before != checkpoint_digest(tiny_detector("rt_detr"))
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert checkpoint_digest(copy) != before


def test_label_phrases():
    assert label_phrases(["PER", "org"]) == ["a person", "a face", "a logo", "a sports team", "a uniform"]
    assert label_phrases(["PERSON", "PER"]) == label_phrases(["PER"])
    assert label_phrases(["SPACE_SHIP", "Event"]) == ["a space ship", "an event"]
    assert label_phrases([]) == []
    assert set(label_phrases(["PER", "LOC", "ORG", "MISC"])) >= {"a person", "a building", "a logo"}


class FakeSpacy(types.ModuleType):
    """What is asked of spaCy; a word with a capital or a sign is a noun chunk."""

    def __init__(self, pipes=("parser",)):
        super().__init__("spacy")
        self.pipes = pipes
        self.util = types.SimpleNamespace(is_package=lambda name: name == "en_core_web_md")

    def load(self, name, exclude):
        if name != "en_core_web_md":
            raise OSError(f"[E050] Can't find model '{name}'.")

        def chunk(word):
            root = types.SimpleNamespace(pos_="PRON" if word == "I" else "NOUN")
            return types.SimpleNamespace(text=word, root=root)

        def document(text):
            words = [word for word in text.split() if word != word.lower() or not word.isalpha()]
            return types.SimpleNamespace(noun_chunks=[chunk(word) for word in words])

        return types.SimpleNamespace(
            pipe=lambda texts: map(document, texts),
            has_pipe=self.pipes.__contains__,
            pipe_names=list(self.pipes),
            meta={"version": "3.7.1"},
        )


def test_noun_phrases(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", FakeSpacy())
    assert installed_spacy_model() == "en_core_web_md"
    phrases = PhraseFinder(None, None, ["PER"])
    assert phrases.settings == {"noun phrases": "en_core_web_md 3.7.1", "else": ["a person", "a face"]}
    assert phrases(["I saw Paris and PARIS at St.Denis", "nothing here", "I 99 !", ""]) == [
        ["paris", "st denis"],
        ["a person", "a face"],
        ["a person", "a face"],
        ["a person", "a face"],
    ]
    with pytest.raises(ImportError, match="spacy download en_core_web_lg"):
        PhraseFinder(None, "en_core_web_lg", ["PER"])
    monkeypatch.setitem(sys.modules, "spacy", FakeSpacy(pipes=["tagger"]))
    with pytest.raises(ValueError, match=r"no parser.*got pipes \['tagger'\]"):
        PhraseFinder(None, "en_core_web_md", ["PER"])


def test_without_spacy(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    assert installed_spacy_model() is None
    with pytest.raises(ImportError, match="pip install spacy"):
        PhraseFinder(None, "en_core_web_sm", ["PER"])


def test_real_pictures(detectors, shared):
    paths = sorted((shared / "data/sample/twitter2017/twitter2017_images").glob("*.jpg"))[:3]
    pictures = [Image.open(path).convert("RGB") for path in paths]
    for name in ("grounding-dino", "rt_detr"):
        for picture, objects in zip(pictures, detect(detectors[name], pictures), strict=True):
            assert objects
            crops = encode_crops(picture, [detected.box for detected in objects])
            for crop, (_, _, box) in zip(map(Image.open, map(io.BytesIO, crops)), objects, strict=True):
                assert abs(crop.width - (box[2] - box[0])) < 2 and abs(crop.height - (box[3] - box[1])) < 2
