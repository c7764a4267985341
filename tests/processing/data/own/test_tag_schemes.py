import pytest
import seqeval.scheme
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from processing.data.own.tag_schemes import TAG_SCHEMES, TagSchemeDetector, split_tag, to_iob2
from processing.labels import entity_spans


# A sentence as entities: (type or None, length) one after the other.
SENTENCES = st.lists(st.tuples(st.sampled_from([None, "PER", "LOC", "geo-loc"]), st.integers(1, 4)), max_size=8)
LETTERS = {  # begin, inside, end, single
    "BIOES": "BIES",
    "BILOU": "BILU",
    "BMES": "BMES",
    "BMEWO": "BMEW",
    "IOB2": "BIIB",
}


def spans_of(sentence):
    spans, start = [], 0
    for entity_type, length in sentence:
        if entity_type:
            spans.append((entity_type, start, start + length))
        start += length
    return spans


def tagged(sentence, scheme):
    """The sentence in a scheme, straight from its definition."""
    tags, before = [], None
    for entity_type, length in sentence:
        if entity_type is None:
            tags += ["O"] * length
        elif scheme == "IOB1":
            tags += [f"{'B' if before == entity_type else 'I'}-{entity_type}"] + [f"I-{entity_type}"] * (length - 1)
        else:
            begin, inside, end, single = LETTERS[scheme]
            letters = single if length == 1 else begin + inside * (length - 2) + end
            tags += [f"{letter}-{entity_type}" for letter in letters]
        before = entity_type
    return tags


# In IO two entities of one type that stand side by side are one.
@pytest.mark.parametrize("scheme", [scheme for scheme in TAG_SCHEMES if scheme != "IO"])
@given(sentence=SENTENCES)
def test_entities_are_kept(scheme, sentence):
    tags = tagged(sentence, scheme)
    iob2, changed = to_iob2(tags)
    assert iob2 == tagged(sentence, "IOB2")
    assert entity_spans(iob2) == spans_of(sentence)
    assert changed == sum(a != b for a, b in zip(tags, iob2, strict=True))
    assert to_iob2(iob2) == (iob2, 0)


ORACLES = {"IOB1": "IOB1", "IOB2": "IOB2", "BIOES": "IOBES", "BILOU": "BILOU"}


@pytest.mark.parametrize("scheme", ORACLES)
@given(sentence=SENTENCES)
def test_valid_sentences_read_as_by_seqeval_s_schemes(scheme, sentence):
    tags = [tag.replace("geo-loc", "geo") for tag in tagged(sentence, scheme)]
    theirs = seqeval.scheme.Entities([tags], getattr(seqeval.scheme, ORACLES[scheme])).entities[0]
    assert entity_spans(to_iob2(tags)[0]) == [(entity.tag, entity.start, entity.end) for entity in theirs]


@given(st.lists(st.sampled_from(["O", *(f"{prefix}-{name}" for prefix in "BIES" for name in ("PER", "LOC"))])))
def test_any_sentence_reads_as_by_seqeval_s_default(tags):
    theirs = [(name, start, end + 1) for name, start, end in get_entities(tags)]
    assert entity_spans(to_iob2(tags)[0]) == theirs


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        ("B-PER I-PER O", "IOB2"),
        ("I-PER I-PER O", "IOB1"),
        ("I-PER B-PER O", "IOB1"),
        ("I-PER B-PER O / B-LOC", "IOB2"),  # a B- not after an entity of its type
        ("I-PER B-LOC O", "IOB2"),
        ("B-PER O / O", "IOB2"),
        ("B-PER / I-PER", "IOB2"),  # a stray I- in IOB2
        ("O S-PER O", "BIOES"),
        ("B-PER E-PER O", "BIOES"),
        ("B-PER I-PER I-PER / S-LOC", "BIOES"),
        ("U-PER", "BILOU"),
        ("B-PER I-PER L-PER", "BILOU"),
        ("W-PER", "BMEWO"),
        ("B-PER M-PER E-PER", "BMES"),
        ("B-PER M-PER E-PER / W-PER", "BMEWO"),
        ("O O / O", None),
    ],
)
def test_scheme(sentences, scheme):
    detector = TagSchemeDetector()
    for tags in sentences.split(" / "):
        detector.add(tags.split())
    assert detector.scheme == scheme


@given(st.lists(SENTENCES, max_size=4), st.sampled_from(["BIOES", "BILOU", "IOB1", "IOB2"]))
def test_what_is_found_explains_the_tags(sentences, scheme):
    detector = TagSchemeDetector()
    spans = [span for sentence in sentences for span in spans_of(sentence)]
    for sentence in sentences:
        detector.add(tagged(sentence, scheme))
    # In none of these four are there letters that another would explain sooner.
    assert detector.scheme == (scheme if spans else None)


def test_several_schemes():
    detector = TagSchemeDetector()
    detector.add(["S-PER", "L-PER", "L-LOC"])
    with pytest.raises(ValueError, match=r"one scheme of IOB2, IOB1, BIOES.*, got prefixes of several: 2 L-, 1 S-"):
        detector.scheme  # noqa: B018


@pytest.mark.parametrize("tag", ["PER", "", "o", "B", "B-", "-PER", "O-PER", "X-PER", "BI-PER", "b-PER", "PER-B", "3"])
def test_no_tag(tag):
    with pytest.raises(ValueError, match=f"expected O, or one of .*, as in B-PER, got '{tag}'"):
        split_tag(tag)
    with pytest.raises(ValueError, match="as in B-PER"):
        to_iob2(["O", tag])
    detector = TagSchemeDetector()
    with pytest.raises(ValueError, match="as in B-PER"):
        detector.add(["B-PER", tag])
    assert not detector.prefixes


def test_a_scheme_named():
    assert split_tag("S-a-b", "BIOES") == ("S", "a-b")
    assert split_tag("O", "IOB2") == ("O", "")
    with pytest.raises(
        ValueError, match="expected O, or one of B, I, a dash and an entity type, as in B-PER, got 'S-PER'"
    ):
        split_tag("S-PER", "IOB2")


def test_counts():
    assert to_iob2(["I-PER", "I-PER", "O", "B-LOC", "I-PER"]) == (["B-PER", "I-PER", "O", "B-LOC", "B-PER"], 2)
    assert to_iob2([]) == ([], 0)
