import pytest
from datasets import Dataset, DatasetDict

from processing.data.tasks import check_task, choose_split


@pytest.fixture
def data():
    rows = Dataset.from_dict({"tokens": [["RT"]], "ner_tags": [[0]]})
    return DatasetDict({"train": rows, "validation": rows.select([])})


def test_data_must_have_the_answers_of_the_task(data):
    check_task(data, "tweets", "ner")
    message = (
        "needs the column relation, but tweets has the columns tokens, ner_tags. These data are for the task ner."
    )
    with pytest.raises(ValueError, match=message):
        check_task(data, "tweets", "re")
    with pytest.raises(ValueError, match=r"tweets has the columns tokens\.$"):
        check_task(DatasetDict({"train": data["train"].remove_columns("ner_tags")}), "tweets", "ner")


def test_a_split_is_chosen_by_name(data):
    assert choose_split(data, "validation").num_rows == 0
    with pytest.raises(ValueError, match="must be one of train, validation, got 'tst'"):
        choose_split(data, "tst")
