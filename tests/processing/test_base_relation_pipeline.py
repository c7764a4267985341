"""Relations of two given entities, and of all entities that a tagger finds."""

import json
import logging
from itertools import permutations

import pytest
import torch
from PIL import Image
from transformers import pipeline

from modeling_ifaformer import IFAformerForRelationExtraction, IFAformerForTokenClassification
from processing import IFAformerPipeline, IFAformerRelationPipeline
from processing.base_relation_pipeline import (
    MANY_PAIRS,
    NO_WHOLE_WORDS,
    NO_WORDS_THERE,
    OTHER_NAME,
    SAME_WORDS,
    better_directions,
)
from processing.context import CONTEXT_CUT
from processing.entity_markers import NO_ROOM, NOT_ONCE
from processing.labels import label_maps
from processing.problems import Problem, ProblemError
from processing.tokenizing import CUT_OFF


RELATIONS = ["member_of", "None", "peer", "held_on"]
PICTURE = Image.linear_gradient("L").convert("RGB")
CROPS = [Image.radial_gradient("L").convert("RGB"), PICTURE.rotate(90)]
ROW = {"text": "Jordan met New York!", "head": (0, 6), "tail": (11, 19), "image": PICTURE, "aux_crops": CROPS}


@pytest.fixture(scope="module")
def extractor(make_config, make_processor):
    """With weights as large as make its answers differ."""
    torch.manual_seed(0)
    processor = make_processor(relations=RELATIONS)
    head, _, tail, _ = processor.add_entity_markers()
    config = make_config(
        head_marker_token_id=head,
        tail_marker_token_id=tail,
        vocab_size=len(processor.tokenizer),
        **label_maps(RELATIONS),
    )
    model = IFAformerForRelationExtraction(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return IFAformerRelationPipeline(model, processor=processor, device="cpu")


@pytest.fixture(scope="module")
def make_tagger(make_config, make_processor):
    """A tagger that takes every word for an entity."""

    def make(**kwargs):
        torch.manual_seed(0)
        processor = make_processor()
        model = IFAformerForTokenClassification(make_config(**label_maps(processor.labels)))
        with torch.no_grad():
            model.classifier.bias[model.config.label2id["B-PER"]] += 100
        return IFAformerPipeline(model, processor=processor, device="cpu", **kwargs)

    return make


def by_hand(extractor, words, head, tail, **pictures):
    (head, tail) = ({"start": start, "end": end} for start, end in (head, tail))
    inputs = extractor.processor(text=[words], heads=[head], tails=[tail], **pictures, return_tensors="pt")
    with torch.no_grad():
        logits = extractor.model.eval()(**inputs).logits
    return extractor.processor.post_process_relations(logits)[0]


@pytest.mark.parametrize(
    "row", [{"text": "Jordan met New York!"}, {"tokens": ["Jordan", "met", "New", "York", "!"]}], ids=["text", "words"]
)
def test_a_name_that_its_place_contradicts(extractor, row):
    start, end = (11, 19) if "text" in row else (2, 4)
    tail = {"name": "new york", "start": start, "end": end}
    head = {"start": 0, "end": 6 if "text" in row else 1}
    assert extractor({**row, "head": head, "tail": tail})["tail"]["word"] == "New York"
    details = f"('Jordan' is given, {start} to {end} is 'New York')"
    with pytest.raises(ProblemError) as error:
        extractor({**row, "head": head, "tail": {**tail, "name": "Jordan"}})
    assert error.value.problem == Problem(OTHER_NAME, "tail", details=details)


def test_the_relation_of_two_entities(extractor):
    result = extractor(ROW)
    assert result["head"] == {"word": "Jordan", "start": 0, "end": 6}
    assert result["tail"] == {"word": "New York", "start": 11, "end": 19}
    expected = by_hand(
        extractor, ["Jordan", "met", "New", "York", "!"], (0, 1), (2, 4), images=[PICTURE], aux_crops=[CROPS]
    )
    assert result["relation"] == expected["relation"]
    assert result["score"] == pytest.approx(expected["score"], abs=1e-6)
    words = {**ROW, "tokens": ["Jordan", "met", "New", "York", "!"], "head": {"start": 0, "end": 1}, "tail": (2, 4)}
    of_words = extractor(words)
    assert of_words["relation"] == result["relation"] and of_words["score"] == pytest.approx(result["score"])
    assert of_words["tail"] == {"word": "New York", "start": 11, "end": 19}
    swapped = extractor({**ROW, "head": ROW["tail"], "tail": ROW["head"]})
    without = extractor({name: ROW[name] for name in ("text", "head", "tail")})
    assert len({result["score"], swapped["score"], without["score"]}) == 3


def test_entities_by_their_text(extractor):
    named = {**ROW, "head": "Jordan", "tail": "New York"}
    assert extractor(named) == extractor(ROW)
    assert extractor({**named, "tail": "!"})["tail"] == {"word": "!", "start": 19, "end": 20}
    words = {"tokens": ["New", "York", "met", "New", "Yorkers"], "tail": "Yorkers"}
    for head, span in (("New York", (0, 2)), ("met New", (2, 4))):  # "New Yorkers" holds no whole "New York"
        assert extractor({**words, "head": head}) == extractor({**words, "head": span, "tail": (4, 5)})


def test_results_show_themselves(extractor):
    row = {**ROW, "crops": {"aux_crops": [{"box": [0, 0, 9, 9], "label": "dog"}]}}
    plain, reported = extractor(row), extractor([row], on_error="report")[0]
    assert list(plain) == ["relation", "score", "head", "tail"]
    assert reported == {"text": ROW["text"], **plain, "crops": row["crops"]}
    assert plain._repr_html_() == reported._repr_html_()
    for part in ("Jordan<small> head", "New York<small> tail", "<svg", ">dog<"):
        assert part in plain._repr_html_()
    (untagged,) = extractor([{"text": "Jordan"}], on_error="report")
    assert not untagged.is_tagged and plain.is_tagged and "head: an entity is given" in untagged._repr_html_()


def test_the_negative_relation_does_not_hold(extractor, monkeypatch):
    found = extractor(ROW)
    for negative in ("None", found["relation"]):
        monkeypatch.setattr(extractor.processor, "negative_relation", negative)
        assert extractor(ROW).holds is (found["relation"] != negative)
    assert f"No relation found, {found['score']:.2f}." in extractor(ROW)._repr_html_()


def test_crops_are_looked_for_by_the_types_that_relations_name(extractor, make_processor, tiny_detector, monkeypatch):
    asked = []
    detector = {"aux_detector": str(tiny_detector("owlv2")), "aux_threshold": 0.01, "spacy_model": "none"}
    monkeypatch.setattr(extractor.processor, "relations", ["None", "/per/loc/in", "peer", "/loc/org/of"])
    phrases = extractor.proposer.phrases
    monkeypatch.setattr(extractor.proposer, "phrases", lambda *given: asked.append(given[2]) or phrases(*given))
    row = {name: ROW[name] for name in ("text", "head", "tail", "image")}
    assert extractor(row, on_error="report", **detector)["crops"]["aux_crops"] and asked == [["per", "loc", "org"]]


def test_batches_and_generators(extractor):
    rows = [ROW, {"tokens": ["Paris", "in", "York"], "head": (2, 3), "tail": (0, 1)}, {**ROW, "image": None}]
    alone = [extractor(row) for row in rows]
    for results in (extractor(rows, batch_size=3), list(extractor(iter(rows), batch_size=2))):
        assert [result["relation"] for result in results] == [result["relation"] for result in alone]
        scores = [result["score"] for result in results]
        assert scores == pytest.approx([result["score"] for result in alone], abs=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"head": (0, 5)}, rf"head: {NO_WHOLE_WORDS} \(got characters \(0, 5\); words lie at 0-6"),
        ({"tail": None}, r"tail: an entity is given as it stands in the text, or as .* \(got None\)"),
        ({"tokens": ["a", "b"], "head": (0, 1), "tail": (1, 3)}, rf"tail: {NO_WORDS_THERE} \(got \(1, 3\)"),
        ({"tail": (11.0, 19.0)}, r"tail: an entity is given as .* \(got \(11.0, 19.0\)\)"),
        ({"head": "Rome"}, r"head: the entity must occur once .* \(start, end\) says .* \('Rome' occurs 0 times\)"),
        ({"head": "jordan"}, "head: .*'jordan' occurs 0 times"),
        ({"tail": "New Yo"}, "tail: .*'New Yo' occurs 0 times"),
        ({"tail": "ew York"}, "tail: .*'ew York' occurs 0 times"),
        ({"tail": ""}, "tail: .*'' occurs 0 times"),
        ({"text": "met Jordan met", "head": "met", "tail": "Jordan"}, "head: .*'met' occurs 2 times"),
        (
            {"tokens": ["New", "York", "in", "New", "York"], "head": "in", "tail": "York"},
            "tail: .*'York' occurs 2 times",
        ),
        ({"tail": " Jordan"}, SAME_WORDS),
        ({"text": "Jordan met \ufe0f!", "tail": (11, 12)}, "tail: the tokenizer keeps nothing of the entity"),
        (
            {"tokens": ["Jordan", "<s>", "Paris"], "head": (0, 1), "tail": (2, 3)},
            rf"text: {NOT_ONCE} \(its .* tokens hold <s> 2 times\)",
        ),
        ({"image": b"no picture"}, "image"),
    ],
)
def test_bad_rows(extractor, changed, message):
    row = {**ROW, **changed}
    with pytest.raises(ValueError, match=message):
        extractor(row)
    with pytest.raises(ValueError, match=f"Row 1: {message}"):
        extractor([ROW, row])
    reported = extractor([ROW, row], on_error="report")[1]
    assert len(reported["problems"]) == 1
    assert ("relation" in reported) is ("image" in changed), "a picture that cannot be used is left out"


def test_what_does_not_go_together(extractor, make_tagger, make_processor):
    with pytest.raises(ValueError, match="explain works only for entities"):
        extractor(ROW, explain="attention")
    with pytest.raises(ValueError, match="IFAformerForTokenClassification finds no relations"):
        IFAformerRelationPipeline(make_tagger().model, processor=extractor.processor)
    with pytest.raises(ValueError, match="look at pictures differently: num_aux_crops is 1 for the tagger, 3 for"):
        extractor.check_pictures(make_processor(num_aux_crops=1))
    with pytest.raises(ValueError, match="max_images is 2 for the tagger, 1 for"):
        extractor.check_pictures(make_processor(max_images=2))

    class Before(type(extractor.processor)):  # of a checkpoint that brings code which knew one picture alone
        @property
        def pixel_settings(self):
            return {name: value for name, value in super().pixel_settings.items() if name != "max_images"}

    other = make_processor()
    other.__class__ = Before
    extractor.check_pictures(other)
    other = make_processor()
    other.image_processor.do_resize = False
    with pytest.raises(ValueError, match="do_resize is False for the tagger, True for"):
        extractor.check_pictures(other)
    with pytest.raises(
        TypeError, match=r"must be a pipeline for relations.*got 'user/relations' for IFAformerPipeline"
    ):
        make_tagger(relation_extractor="user/relations")
    with pytest.raises(TypeError, match="given to one for entities"):
        IFAformerRelationPipeline(extractor.model, processor=extractor.processor, relation_extractor=extractor)


def test_words_that_have_no_room_are_told(extractor, monkeypatch, caplog):
    monkeypatch.setattr(extractor.processor, "max_length", 12)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    row = {"tokens": ["so"] * 20 + ["Jordan", "in", "Paris", "\u200d"], "head": "Jordan", "tail": "Paris"}
    (reported,) = extractor([row], on_error="report")
    assert reported.found_problems == [Problem(CUT_OFF, "text", details="(20 of 24 words)")]
    assert "problems" not in extractor([{**row, "tokens": row["tokens"][-4:]}], on_error="report")[0]
    assert extractor(row)["relation"] and f"text: {CUT_OFF} (20 of 24 words)" in caplog.text


def test_a_tagger_of_texts_alone_hands_pictures_on(extractor, make_tagger):
    tagger = make_tagger(relation_extractor=extractor)
    row = {name: ROW[name] for name in ("text", "image", "aux_crops")}
    expected = tagger(row)["relations"]
    tagger.model.config.text_attends_vision = False
    assert tagger(row)["relations"] == expected != tagger(row["text"])["relations"]


def test_the_negative_relation_may_have_another_name(extractor, make_tagger, monkeypatch):
    row = {name: ROW[name] for name in ("text", "image", "aux_crops")}
    tagger = make_tagger(relation_extractor=extractor)
    without = {relation["relation"] for relation in tagger(row)["relations"]}
    assert "None" not in without and "peer" in without
    monkeypatch.setattr(extractor.processor, "negative_relation", "peer")
    with_none = {relation["relation"] for relation in tagger(row)["relations"]}
    assert "None" in with_none and "peer" not in with_none


@pytest.mark.parametrize("negative", ["None", None])
def test_triples_are_the_relations_pair_by_pair(extractor, make_tagger, monkeypatch, negative):
    """But for the negative one; without any, each pair is claimed in both directions, and the better claim stays."""
    monkeypatch.setattr(extractor.processor, "negative_relation", negative)
    tagger = make_tagger(relation_extractor=extractor)
    row = {name: ROW[name] for name in ("text", "image", "aux_crops")}
    result, lonely = tagger([row, "Paris"], batch_size=2)
    entities = result["entities"]
    assert [entity["word"] for entity in entities] == ["Jordan", "met", "New", "York", "!"]
    claims = {}
    for head in range(5):
        for tail in range(5):
            if head != tail:
                spans = {
                    name: (entities[index]["start"], entities[index]["end"])
                    for name, index in (("head", head), ("tail", tail))
                }
                answer = extractor({**row, **spans})
                if answer["relation"] != negative:
                    claims[head, tail] = answer
    better = {
        pair: answer
        for pair, answer in claims.items()
        if answer["score"] > claims.get(pair[::-1], {"score": 0})["score"]
    }
    expected = [
        (*pair, answer["relation"], pytest.approx(answer["score"], abs=1e-5)) for pair, answer in better.items()
    ]
    assert [tuple(relation.values()) for relation in result["relations"]] == expected
    assert (0 < len(claims) < 20) if negative else (len(better) == 10 and len(claims) == 20)
    assert lonely["relations"] == [] and "problems" not in result
    assert make_tagger()(row) == [*entities], "the entities are what they are without"
    json.dumps(result)


def test_relations_below_the_threshold_are_left_out(extractor, make_tagger):
    tagger = make_tagger(relation_extractor=extractor)
    row = {name: ROW[name] for name in ("text", "image", "aux_crops")}
    found = tagger(row)
    relations = found["relations"]
    middle = sorted(relation["score"] for relation in relations)[len(relations) // 2]
    names = {relation["relation"] for relation in relations}
    result = tagger(row, threshold=dict.fromkeys(names, middle))
    kept = [relation for relation in relations if relation["score"] >= middle]
    assert result["entities"] == found["entities"] and 0 < len(kept) < len(relations)
    assert result["relations"] == kept and len(result.left_out) == len(relations) - len(kept)
    # Between entities that are left out no relation is looked for.
    tagger.model.config.calibration_temperature = 1e6  # at which every tag is as probable as any other
    nothing = tagger(row, threshold=0.5)
    assert (nothing["entities"], nothing["relations"], len(nothing.left_out)) == ([], [], len(found["entities"]))
    with pytest.raises(
        ValueError, match=r"threshold names None, but the models know only .*LOC, member_of, peer, held"
    ):
        tagger(row, threshold={"None": 0.5})
    with pytest.raises(ValueError, match="threshold works only for entities, and for relations between entities that"):
        extractor(ROW, threshold=0.5)


def test_of_two_directions_the_better_claim_stays():
    claims = [
        {"head": 0, "tail": 1, "relation": "member_of", "score": 0.5},
        {"head": 0, "tail": 2, "relation": "peer", "score": 0.7},
        {"head": 1, "tail": 0, "relation": "peer", "score": 0.6},
        {"head": 1, "tail": 2, "relation": "peer", "score": 0.2},
        {"head": 2, "tail": 0, "relation": "peer", "score": 0.7},
    ]
    assert better_directions(claims) == [claims[1], claims[2], claims[3]]


@pytest.fixture
def typed_tagger(make_tagger):
    """`typed_tagger(...)`, made as `make_tagger` makes one, where Jordan is a person and Paris a place."""

    def make(**kwargs):
        tagger = make_tagger(**kwargs)
        entities = [("PER", "Jordan", 0, 6), ("LOC", "Paris", 11, 16)]
        keys = ("entity_group", "word", "start", "end")
        tagger.processor.entities_of = lambda *arguments: [dict(zip(keys, of, strict=True)) for of in entities]
        return tagger

    return make


def probabilities(extractor, head, tail):
    """Of each relation, for this head and tail of "Jordan met Paris"."""
    inputs = extractor.processor(
        text=[["Jordan", "met", "Paris"]],
        heads=[{"start": head, "end": head + 1}],
        tails=[{"start": tail, "end": tail + 1}],
        return_tensors="pt",
    )
    with torch.no_grad():
        return dict(zip(RELATIONS, extractor.model.eval()(**inputs).logits.softmax(-1)[0].tolist(), strict=True))


def test_a_relation_that_the_types_rule_out_is_not_chosen(extractor, typed_tagger, monkeypatch):
    """The best one that is left is, with its probability among all. The negative one, whichever it is, is left."""
    tagger, numbers = typed_tagger(relation_extractor=extractor), set()
    of_both = {(0, 1): probabilities(extractor, 0, 2), (1, 0): probabilities(extractor, 2, 0)}
    for wanted, negative in permutations(RELATIONS, 2):
        monkeypatch.setattr(extractor.processor, "negative_relation", negative)
        claims = [
            {"head": head, "tail": tail, "relation": wanted, "score": of_pair[wanted]}
            for (head, tail), of_pair in of_both.items()
            if of_pair[wanted] > of_pair[negative]
        ]
        others = {name: [] for name in RELATIONS if name not in (wanted, negative)}
        found = tagger("Jordan met Paris", relation_types=others)["relations"]
        expected = better_directions(claims)
        assert found == [{**claim, "score": pytest.approx(claim["score"], abs=1e-5)} for claim in expected]
        numbers.add((len(claims), len(found)))
    assert numbers >= {(0, 0), (2, 1)}


def test_pairs_that_the_types_rule_out_are_not_asked_about(extractor, typed_tagger, monkeypatch):
    every = {name: [["PER", "LOC"]] for name in RELATIONS if name != "None"}
    tagger, passes, forward = typed_tagger(relation_extractor=extractor, relation_types=every), [], extractor.forward
    monkeypatch.setattr(extractor, "forward", lambda batch: passes.append(len(batch["rows"])) or forward(batch))
    tagger("Jordan met Paris")
    tagger("Jordan met Paris", relation_types={})
    assert passes == [1, 2], "what is given with a call takes the place of what the pipeline was made with"
    assert tagger("Jordan met Paris", relation_types={name: [] for name in every})["relations"] == []
    assert len(passes) == 2


def test_without_a_negative_relation_only_what_is_allowed_is_taken(extractor, typed_tagger, monkeypatch):
    monkeypatch.setattr(extractor.processor, "negative_relation", None)
    tagger = typed_tagger(relation_extractor=extractor)
    limits = {name: [] for name in RELATIONS}
    assert tagger("Jordan met Paris", relation_types=limits)["relations"] == []
    for wanted in RELATIONS:
        (found,) = tagger("Jordan met Paris", relation_types={**limits, wanted: [("PER", "LOC")]})["relations"]
        score = pytest.approx(probabilities(extractor, 0, 2)[wanted], abs=1e-5)
        assert found == {"head": 0, "tail": 1, "relation": wanted, "score": score}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["peer"], r"must be an object that lists .* of relations, such as .*\"PER\".*, got \['peer'\]\.$"),
        ({"friend": []}, "names the relation 'friend', but the model knows only member_of, None, peer, held_on"),
        ({"None": []}, "names None, which stands for no relation. Leave it out"),
        ({"peer": "PER"}, "must be .* got 'PER' for peer"),
        ({"peer": ["PER", "PER"]}, r"must be .* got \['PER', 'PER'\] for peer"),
        ({"peer": [["PER", "PER", "PER"]]}, r"must be .* got \[\['PER', 'PER', 'PER'\]\] for peer"),
        ({"peer": [["PER", 1]]}, r"must be .* got \[\['PER', 1\]\] for peer"),
        ({"peer": [["PER", "PERSON"]]}, "names the type 'PERSON' for peer, but the tagger knows only MISC, PER, ORG"),
    ],
)
def test_wrong_relation_types(extractor, make_tagger, tmp_path, given, message):
    tagger = make_tagger(relation_extractor=extractor)
    if isinstance(given, dict):
        with pytest.raises(ValueError, match=f"^relation_types {message}"):
            tagger("Paris", relation_types=given)
    (tmp_path / "types.json").write_text(json.dumps(given))
    with pytest.raises(ValueError, match=f"types.json {message}"):
        make_tagger(relation_extractor=extractor, relation_types=tmp_path / "types.json")


def test_files_of_relation_types(extractor, make_tagger, tmp_path):
    path = tmp_path / "types.json"
    with pytest.raises(FileNotFoundError, match=r"types\.json"):
        make_tagger(relation_extractor=extractor, relation_types=path)
    for content in ("{", '{"peer": [], "peer": []}', "[" * 10**5):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"types\.json must be JSON: an object that lists"):
            make_tagger(relation_extractor=extractor, relation_types=str(path))
    path.write_text('{"peer": [["PER", "LOC"], ["LOC", "PER"]]}')
    read = extractor.read_relation_types(path, ["PER", "LOC"])
    assert read == {"peer": [["LOC", "PER"], ["PER", "LOC"]]} == extractor.read_relation_types(read, ["PER", "LOC"])


def test_relation_types_need_a_tagger_with_a_relation_extractor(extractor, make_tagger):
    for alone in (make_tagger(), extractor):
        with pytest.raises(ValueError, match="relation_types works only for a tagger with a relation_extractor"):
            alone(ROW, relation_types={})


def test_pairs_of_several_texts_share_a_pass(extractor, make_tagger, monkeypatch):
    tagger = make_tagger(relation_extractor=extractor)
    rows = [{name: ROW[name] for name in ("text", "image", "aux_crops")}, "Jordan", "Paris in York"]
    alone = [tagger(row)["relations"] for row in rows]
    passes, forward = [], extractor.forward
    monkeypatch.setattr(extractor, "forward", lambda batch: passes.append(len(batch["rows"])) or forward(batch))
    together = [result["relations"] for result in tagger(rows, batch_size=3)]
    assert passes == [20 + 0 + 6] and together == [
        [{**relation, "score": pytest.approx(relation["score"], abs=1e-5)} for relation in of] for of in alone
    ]


def test_pairs_that_cannot_be_looked_at_are_told(extractor, make_tagger, monkeypatch):
    monkeypatch.setattr("processing.base_relation_pipeline.MAX_PAIRS", 12)
    monkeypatch.setattr(extractor.processor, "max_length", 7)
    tagger = make_tagger(relation_extractor=extractor)
    result = tagger("Jordan met Paris in New York City")
    details = "(42 pairs, the nearest 12 are looked at)"
    assert result.found_problems[0] == Problem(MANY_PAIRS, "relations", details=details)
    assert [problem.kind for problem in result.found_problems[1:]] == [NO_ROOM] * 12
    told = " ".join(result["problems"])
    for pair in ("'Jordan' and 'met'", "'City' and 'York'"):  # neighbours, in both directions
        assert pair in told
    assert "'Jordan' and 'City'" not in told and "there is room for" in told


def test_it_travels(extractor, make_tagger, run_without_project, tmp_path):
    extractor.save_pretrained(tmp_path / "relations")
    make_tagger().save_pretrained(tmp_path / "tagger")
    program = (
        "import json\n"
        "from transformers import pipeline\n"
        "load = dict(trust_remote_code=True, device='cpu')\n"
        "extractor = pipeline('multimodal-relation-extraction', model='relations', **load)\n"
        "tagger = pipeline('multimodal-token-classification', model='tagger', relation_extractor=extractor, **load)\n"
        "row = dict(text='Jordan met New York!')\n"
        "print(json.dumps([extractor(dict(row, head=(0, 6), tail=(11, 19))), tagger(row)]))"
    )
    finished = run_without_project(program, cwd=tmp_path)
    row = {"text": "Jordan met New York!"}
    here = [extractor({**row, "head": (0, 6), "tail": (11, 19)}), make_tagger(relation_extractor=extractor)(row)]
    assert json.loads(finished.stdout.splitlines()[-1]) == json.loads(json.dumps(here))
    registered = pipeline("multimodal-relation-extraction", model=str(tmp_path / "relations"), device="cpu")
    assert type(registered).__name__ == "IFAformerRelationPipeline"


def test_a_context_is_read_for_each_pair(extractor, make_tagger, monkeypatch):
    row = {"text": "Jordan met Paris", "context": "the team"}
    monkeypatch.setattr(extractor.processor, "negative_relation", None)
    tagger = make_tagger(relation_extractor=extractor)
    plain = tagger(row)
    monkeypatch.setattr(extractor.processor, "max_context_length", 5)
    given = {**row, "head": (0, 6), "tail": (11, 16)}
    inputs = extractor.processor(
        row["text"],
        heads={"start": 0, "end": 1},
        tails={"start": 2, "end": 3},
        context=row["context"],
        return_tensors="pt",
    )
    assert inputs["token_type_ids"].any()
    with torch.no_grad():
        (expected,) = extractor.processor.post_process_relations(extractor.model(**inputs).logits)
    assert extractor(given)["score"] == pytest.approx(expected["score"])
    with_context = tagger(row)
    assert with_context["entities"] == plain["entities"] and with_context["relations"] != plain["relations"]
    assert not with_context.get("problems")
    monkeypatch.setattr(extractor.processor, "max_context_length", 1)
    (problem,) = tagger(row, on_error="report")["problems"]
    assert problem.startswith(f"context: {CONTEXT_CUT} ("), "once for the row, not for each pair"
