"""Shares by hand on small models; on a model that was really trained, the crop that decides comes first."""

import random

import pytest
import torch
from PIL import Image

from modeling_ifaformer import IFAformerForTokenClassification
from processing import IFAformerPipeline
from processing.explanations import (
    METHODS,
    attention_shares,
    eager_attention,
    occlusion_shares,
    source_mask,
    source_names,
)


@pytest.fixture
def make_batch(make_inputs):
    """The batch of `make_inputs` as the pipeline has it, and the positions of two, one and no entity."""

    def make(**changes):
        inputs = make_inputs()
        inputs["crf_mask"] = inputs["attention_mask"].bool()
        return {name: values for name, values in {**inputs, **changes}.items() if values is not None}

    return make


POSITIONS = [[[1], [3, 4]], [[2]], []]


def tag_ids(model, inputs):
    return model.eval()(**inputs).tag_ids


def test_sources(make_batch):
    inputs = make_batch()
    crops = [*(f"aux_crops {index}" for index in range(3)), *(f"rcnn_crops {index}" for index in range(2))]
    assert source_names(inputs) == ["text", "image", *crops]
    assert source_mask(inputs).int().tolist() == [
        [1, 1, 1, 1, 0, 1, 0],
        [1, 0, 0, 0, 0, 1, 1],
        [1, 1, 1, 1, 1, 0, 0],
    ]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"text_attends_vision": False},
        {"vision_attends_text": False},
        {"use_whole_image": False},
        {"attention_variant": "deepke", "use_whole_image": False},
        {"kind": "modernbert and siglip"},
        {"kind": "distilbert and dinov2"},
    ],
)
def test_shares_sum_to_one_over_what_is_there(method, changes, make_batch, make_config):
    torch.manual_seed(0)
    model = IFAformerForTokenClassification(make_config(num_labels=5, **changes)).eval()
    whole = {} if model.config.use_whole_image else {"pixel_values": None, "image_mask": None}
    for absent in ({}, {"rcnn_pixel_values": None, "rcnn_crop_mask": None}):
        inputs = make_batch(**whole, **absent)
        shares = METHODS[method](model, inputs, tag_ids(model, inputs), POSITIONS)
        for of_row, present, entities in zip(shares, source_mask(inputs), POSITIONS, strict=True):
            assert of_row.shape == (len(entities), len(source_names(inputs)))
            assert torch.allclose(of_row.sum(dim=1), torch.ones(len(entities)), atol=1e-5)
            assert (of_row[:, ~present] == 0).all() and (of_row >= 0).all()
            if model.config.text_attends_vision and method == "attention":
                assert (of_row[:, present] > 0).all()
            elif not model.config.text_attends_vision:
                assert torch.allclose(of_row[:, 0], torch.ones(len(entities)))


def rollout_by_hand(model, inputs, row, position):
    """One row, one position, loops over layers and positions: (V + T,)."""
    outputs = model(**{name: values[row : row + 1] for name, values in inputs.items()}, output_attentions=True)
    length, number = inputs["input_ids"].shape[1], outputs.image_attentions[0].shape[2]
    unit = torch.eye(number + length)
    vision, text = [[*unit[:number]]], [[*unit[number:]]]  # of each layer, of each position

    def mixed(weights, prefix, own):
        states = [*prefix, *own]
        return [
            0.5 * own[query] + 0.5 * sum(weight * state for weight, state in zip(row, states, strict=True))
            for query, row in enumerate(weights[0].mean(dim=0))
        ]

    for layer, of_text in enumerate(outputs.attentions):
        lender = model.config.lending_layers[layer]
        for number_run in range(len(vision) - 1, lender + 1):
            of_vision = outputs.image_attentions[number_run]
            vision.append(mixed(of_vision, text[max(layer - 1, 0)], vision[number_run]))
        text.append(mixed(of_text, vision[lender if layer else 0], text[layer]))
    return text[-1][position]


@pytest.mark.parametrize("kind", ["corrected", "modernbert and siglip", "bert and a deeper clip"])
def test_rollout_by_hand(make_batch, make_config, kind):
    torch.manual_seed(0)
    model = IFAformerForTokenClassification(make_config(kind, num_labels=5, attn_implementation="eager")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # else attention is nearly uniform
    inputs = make_batch()
    (first, second), *_ = attention_shares(model, inputs, POSITIONS)
    with torch.no_grad():
        one, *two = (rollout_by_hand(model, inputs, 0, position) for position in (1, 3, 4))
    # [class, which SigLIP lacks ; 9 patches ; 3 crops of 4 patches and 2 of one, the last of each absent ; text]
    ends = torch.tensor([0 if "siglip" in kind else 1, 9, 4, 4, 4, 1, 1, 7])
    for shares, held in ((first, one), (second, sum(two) / 2)):
        classes, image, aux_0, aux_1, _, rcnn_0, _, text = (part.sum() for part in held.split(ends.tolist()))
        expected = torch.stack([text, image, aux_0, aux_1, torch.tensor(0.0), rcnn_0, torch.tensor(0.0)])
        assert torch.allclose(shares, expected / (1 - classes), atol=1e-5)
    assert (first - second).abs().max() > 0.01


def test_mkgformer_is_explained_by_occlusion(make_batch, make_config):
    config = make_config(num_labels=5, attention_variant="mkgformer")
    model, inputs = IFAformerForTokenClassification(config).eval(), make_batch()
    with pytest.raises(ValueError, match=r"this is a model of the variant mkgformer\. Use explain='occlusion'"):
        attention_shares(model, inputs, POSITIONS)
    shares = occlusion_shares(model, inputs, tag_ids(model, inputs), POSITIONS)
    for of_row, present in zip(shares, source_mask(inputs), strict=True):
        assert torch.allclose(of_row.sum(dim=1), torch.ones(len(of_row)), atol=1e-5) and not of_row[:, ~present].any()
    assert max(of_row[:, 1:].max() for of_row in shares if len(of_row)) > 0


def test_the_kernel_is_put_back(make_batch, make_config):
    model = IFAformerForTokenClassification(make_config(num_labels=5)).eval()
    model.set_attn_implementation({"": "sdpa", "text_config": "sdpa", "vision_config": "eager"})

    def kernels():
        config = model.config
        return [one._attn_implementation for one in (config, config.text_config, config.vision_config)]

    attention_shares(model, make_batch(), POSITIONS)
    assert kernels() == ["sdpa", "sdpa", "eager"]
    with pytest.raises(KeyError, match="x"), eager_attention(model):
        assert kernels() == ["eager"] * 3
        raise KeyError("x")
    assert kernels() == ["sdpa", "sdpa", "eager"]


class ToyModel:
    """Scores of one entity as a function of the pictures that are left, in place of a model and its CRF."""

    def __init__(self, score):
        self.score, self.crf, self.calls = score, self, []

    def __call__(self, **inputs):
        kept = torch.cat([inputs["image_mask"][:, None], inputs["aux_crop_mask"]], dim=1)
        self.calls.append(len(kept))
        scores = torch.tensor([self.score(*row) for row in kept.tolist()])
        return type("Outputs", (), {"logits": torch.stack([1 - scores, scores], dim=-1)[:, None, :].repeat(1, 3, 1)})

    def marginals(self, logits, mask):
        return logits


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        # one crop decides
        (lambda image, a, b: 0.9 if a else 0.3, [1 / 3, 0, 2 / 3, 0]),
        # two show the same: to leave one out changes nothing, each is enough
        (lambda image, a, b: 0.8 if a or b else 0.2, [1 / 4, 0, 3 / 8, 3 / 8]),
        # they speak only together, and with the picture
        (lambda image, a, b: 1.0 if image and a and b else 0.5, [1 / 2, 1 / 6, 1 / 6, 1 / 6]),
        # one harms
        (lambda image, a, b: 0.4 + 0.4 * a - 0.2 * b, [2 / 3, 0, 1 / 3, 0]),
        # nothing helps
        (lambda image, a, b: 0.5 - 0.1 * image, [1, 0, 0, 0]),
        (lambda image, a, b: 0.7, [1, 0, 0, 0]),
    ],
)
def test_occlusion_of_a_known_score(score, expected):
    model = ToyModel(score)
    inputs = {
        "input_ids": torch.ones(1, 3).long(),
        "crf_mask": torch.ones(1, 3).bool(),
        "image_mask": torch.tensor([True]),
        "aux_crop_mask": torch.tensor([[True, True]]),
    }
    [shares] = occlusion_shares(model, inputs, torch.ones(1, 3).long(), [[[0, 2]]])
    assert model.calls == [8]  # 2 n + 2
    assert torch.allclose(shares, torch.tensor([expected]).float(), atol=1e-6)


def test_a_masked_crop_is_an_absent_one(make_batch, make_config):
    torch.manual_seed(0)
    model = IFAformerForTokenClassification(make_config(num_labels=5)).eval()
    with torch.no_grad():
        model.classifier.weight.mul_(40)
    inputs = make_batch(aux_pixel_values=None, aux_crop_mask=None, rcnn_pixel_values=None, rcnn_crop_mask=None)
    tags = tag_ids(model, inputs)

    def score(**left):
        logits = model(**{**inputs, **left}).logits
        return model.crf.marginals(logits, inputs["crf_mask"])[0, 1, tags[0, 1]].item()

    whole, alone = score(), score(pixel_values=None, image_mask=None)
    assert abs(whole - alone) > 1e-3
    (shares, *_), *_ = occlusion_shares(model, inputs, tags, POSITIONS)
    assert shares[1].item() == pytest.approx(max(whole - alone, 0) / whole, abs=1e-4)


def test_an_entity_tells_its_shares(tagger):
    picture = Image.radial_gradient("L").convert("RGB")
    rows = [
        {
            "text": "Jordan met Paris in New York City!",
            "image": picture,
            "crops": [{"box": (0, 0, 90, 80), "label": "x"}],
        },
        "",
        {"text": "Chelsea playing the team of Paris", "rcnn_crops": [picture], "image": b"no picture"},
    ]
    for method in METHODS:
        first, empty, last = tagger(rows, batch_size=3, explain=method, on_error="report")
        assert first["entities"] and last["entities"] and not empty["entities"]
        for entity in first["entities"]:
            text, image, crop = entity["shares"]
            assert (text["source"], image["source"]) == ("text", "image")
            assert {**crop, "share": None} == {
                "source": "aux_crops 0",
                "label": "x",
                "box": [0.0, 0.0, 90.0, 80.0],
                "share": None,
            }
        assert [share["source"] for share in last["entities"][0]["shares"]] == ["text", "rcnn_crops 0"]
        alone = tagger(rows[0], explain=method)
        for one, other in zip(alone, first["entities"], strict=True):
            assert [share["share"] for share in one["shares"]] == pytest.approx(
                [share["share"] for share in other["shares"]], abs=1e-4
            )
    assert "shares" not in tagger(rows[0])[0]
    with pytest.raises(ValueError, match="explain must be one of attention, occlusion or None, got 'magic'"):
        tagger("Jordan", explain="magic")


COLOURS = {"PER": "red", "LOC": "blue"}  # of the crop that decides; the other crops have others
TEXTS = ["Jordan met the team", "RT Paris !", "so playing in York"]
NAMES = ("Jordan", "Paris", "York")
STEPS = 100


def tweets_with_a_deciding_crop(number, seed):
    """Rows as the processor takes them, the type of each one's name, and the crop whose colour tells it."""
    generator = random.Random(seed)
    for _ in range(number):
        text, entity_type = generator.choice(TEXTS), generator.choice(list(COLOURS))
        crops = [generator.choice(["green", "white", "grey"]) for _ in range(generator.randint(2, 5))]
        deciding = generator.randrange(len(crops))
        crops[deciding] = COLOURS[entity_type]
        pictures = [Image.new("RGB", (16, 16), colour) for colour in crops]
        first_rcnn = min(3, len(crops))
        source = f"aux_crops {deciding}" if deciding < first_rcnn else f"rcnn_crops {deciding - first_rcnn}"
        yield {"text": text, "aux_crops": pictures[:3], "rcnn_crops": pictures[3:]}, entity_type, source


@pytest.fixture(scope="module")
def trained(make_config, make_processor):
    """The pipeline around a tiny model that has learnt to read the colour of one crop among several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for each other where a machine is shared, and sum in another order
    processor = make_processor(use_whole_image=False)
    torch.manual_seed(0)
    model = IFAformerForTokenClassification(make_config(**processor.config_fields)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(STEPS):
        rows, types, _ = zip(*tweets_with_a_deciding_crop(32, seed=step), strict=True)
        words = [row["text"].split() for row in rows]
        labels = [
            [f"B-{entity_type}" if word in NAMES else "O" for word in of_row]
            for of_row, entity_type in zip(words, types, strict=True)
        ]
        crops = {name: [row[name] for row in rows] for name in ("aux_crops", "rcnn_crops")}
        loss = model(**processor(text=words, word_labels=labels, **crops, return_tensors="pt")).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    yield IFAformerPipeline(model, processor=processor, device="cpu", batch_size=20)
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("method", "least"), [("attention", 0.8), ("occlusion", 0.95)])
def test_the_crop_that_decides_comes_first(trained, method, least):
    rows, types, deciding = zip(*tweets_with_a_deciding_crop(100, seed=-1), strict=True)
    number = right = by_chance = 0
    for entity_type, source, entities in zip(types, deciding, trained(list(rows), explain=method), strict=True):
        if [(entity["entity_group"], entity["word"] in NAMES) for entity in entities] != [(entity_type, True)]:
            continue  # not recognised, so there is nothing to explain
        crops = [share for share in entities[0]["shares"] if share["source"] not in ("text", "image")]
        number += 1
        by_chance += 1 / len(crops)
        right += max(crops, key=lambda share: share["share"])["source"] == source
    assert number >= 90, "the model has learnt too little to be explained"
    assert by_chance / number < 0.5 and right / number >= least
