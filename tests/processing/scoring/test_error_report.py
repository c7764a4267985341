from datasets import Dataset

from processing.scoring.error_analysis import analyse_entities, analyse_relations
from processing.scoring.error_report import EXAMPLES_IN_TEXT, answers_lines, confusion_lines, counts_lines, errors_text


TOKENS = ["New", "York", "met", "Jordan", "\u202eParis"]
GOLD = ["B-LOC", "I-LOC", "O", "B-PER", "B-LOC"]
PREDICTED = ["O", "B-LOC", "B-ORG", "B-LOC", "B-LOC"]


def test_counts_with_scores_in_percent():
    header, lines = counts_lines(analyse_entities([(GOLD, PREDICTED)], [TOKENS]))
    table = {line[0]: dict(zip(header[1:], line[1:], strict=True)) for line in lines}
    assert table["all"] == {
        **{"gold": "3", "predicted": "4", "P": "25.0", "R": "33.3", "F1": "28.6", "correct": "1"},
        **{"missed": "0", "wrong type": "1", "wrong boundary": "1", "both wrong": "0", "spurious": "1"},
    }
    assert table["type: LOC"]["P"] == "33.3" and table["type: LOC"]["R"] == "50.0"
    assert table["type: PER"]["F1"] == table["type: ORG"]["R"] == "0.0", "there is none of them"
    assert list(table) == [
        *("all", "type: LOC", "type: ORG", "type: PER", "length in words: 1", "length in words: 2"),
        *("capitals: all lower case", "capitals: Title Case"),
    ]


def test_all_answers_of_a_row_in_words():
    analysis = analyse_entities([([], []), (GOLD, PREDICTED)], [[], TOKENS])
    assert answers_lines(analysis, 1, {"tokens": TOKENS}) == [
        "wrong type: Jordan (PER), predicted Jordan (LOC)",
        "wrong boundary: New York (LOC), predicted York (LOC)",
        "spurious: met (ORG)",
        "correct: \u202eParis (LOC)",
    ]
    assert answers_lines(analysis, 0, {"tokens": []}) == []
    both = analyse_entities([(["B-PER", "B-PER"], ["O", "O"])], [["a", "b"]])
    assert answers_lines(both, 0, {"tokens": ["a", "b"]}) == ["missed: a (PER); b (PER)"]


def test_the_text_has_examples_and_says_of_how_many():
    rows = Dataset.from_dict({"tokens": [TOKENS] * 5})
    text = errors_text("runs/mine", analyse_entities([(GOLD, PREDICTED)] * 4 + [(GOLD, GOLD)], rows["tokens"]), rows)
    assert text.startswith("Errors of runs/mine, by the protocol word:\n\n")
    assert "PER, predicted LOC      4\n" in text
    assert "\nspurious: a predicted entity that no gold one is matched with (4 in 4 of 5 tweets)\n" in text
    assert text.count("\n  New York met Jordan \\u202eParis\n") == 3 * EXAMPLES_IN_TEXT and "\u202e" not in text
    assert text.endswith("    correct: \\u202eParis (LOC)")
    assert "missed: a gold entity that no predicted one is matched with (0 in 0 of 5 tweets)\n" in text


def test_without_confusions_there_is_no_table_of_them():
    rows = Dataset.from_dict({"tokens": [TOKENS]})
    assert "gold and predicted" in errors_text("runs/mine", analyse_entities([(GOLD, PREDICTED)], [TOKENS]), rows)
    assert "gold and predicted" not in errors_text("runs/mine", analyse_entities([(GOLD, GOLD)], [TOKENS]), rows)


def test_relations_name_head_and_tail():
    rows = {"tokens": ["Jordan", "met", "Paris"], "head": {"name": "Jordan", "start": 0, "end": 1}}
    rows["tail"] = {"name": "Paris", "start": 2, "end": 3}
    analysis = analyse_relations([("peer", "member")] * 2, {name: [of] * 2 for name, of in rows.items()})
    assert answers_lines(analysis, 1, rows) == ["wrong relation: peer, predicted member (Jordan, Paris)"]
    assert confusion_lines(analysis) == (["gold and predicted", "times"], [["peer, predicted member", "2"]])
    assert counts_lines(analysis)[0][-4:] == ["correct", "missed", "wrong relation", "spurious"]
