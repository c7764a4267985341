from processing.scoring.results_table import differences_table, out_of_reach, results_table


FIGURES = {"precision": 0.25, "recall": 0.5, "f1": 1 / 3, "support": 4}
ENTITIES = {**FIGURES, "per_type": {"LOC": FIGURES, "PER": {**FIGURES, "recall": 1}}, "unreachable_entities": 3}
RELATIONS = {**FIGURES, "accuracy": 0.75, "per_type": {"/per/per/peer": FIGURES}, "unreadable_rows": 2}


def test_a_row_for_each_type_and_all():
    lines = results_table({"one": ENTITIES, "other": RELATIONS}).splitlines()
    assert [line.split() for line in lines] == [
        ["type", "P", "R", "F1", "support"],
        ["one", "LOC", "25.00", "50.00", "33.33", "4"],
        ["PER", "25.00", "100.00", "33.33", "4"],
        ["all", "25.00", "50.00", "33.33", "4"],
        ["other", "/per/per/peer", "25.00", "50.00", "33.33", "4"],
        ["all", "25.00", "50.00", "33.33", "4"],
        ["accuracy", "75.00"],
    ]
    end = lines[0].index("F1") + 2
    figures = ("33.33", "33.33", "33.33", "33.33", "33.33", " 75.00")
    assert all(line[:end].endswith(figure) for line, figure in zip(lines[1:], figures, strict=True))


def test_mean_and_deviation():
    spread = {metric: {"mean": 0.5, "std": 0.125} for metric in ("precision", "recall", "f1")}
    lines = results_table({"test": {**spread, "per_type": {"LOC": spread}}}).splitlines()
    figures = ["50.00", "±12.50"] * 3
    assert [line.split() for line in lines[1:]] == [["test", "LOC", *figures], ["all", *figures]]


def test_what_is_out_of_reach():
    assert out_of_reach(ENTITIES) == "3 of 4 entities are out of the model's reach"
    assert out_of_reach(RELATIONS) == "2 rows have no room for both entities and count as without relation"


def test_differences():
    difference = {"to": "one", "f1": -0.0125, "low": -0.03, "high": 0.005, "p_value": 0.04321}
    _, line = differences_table({"other": difference}).splitlines()
    assert line.split() == ["other", "one", "-1.25", "-3.00", "to", "+0.50", "0.0432"]
