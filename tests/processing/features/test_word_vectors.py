import pytest

from processing.features.word_vectors import read_word_vectors


LINES = ["paris 1 2 3", "Jordan 4 5 6.5", "new york 7 8 9", "jordan 1 1 1", "\x85 2 2 2", "unwanted 3 3 3"]


@pytest.mark.parametrize("head", [[], ["6 3"]], ids=["glove", "word2vec"])
def test_words_as_written_or_else_in_lower_case(head, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join([*head, *LINES]) + "\n", encoding="utf-8")
    vectors = read_word_vectors(path, ["Paris", "Jordan", "JORDAN", "new york", "Oslo", "\x85"])
    assert {word: vector.tolist() for word, vector in vectors.items()} == {
        "Paris": [1, 2, 3],
        "Jordan": [4, 5, 6.5],
        "JORDAN": [1, 1, 1],
        "new york": [7, 8, 9],
        "\x85": [2, 2, 2],
    }
    assert all(vector.dtype == "float32" for vector in vectors.values())


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("a 1 2")
    assert read_word_vectors(path, ["a"])["a"].tolist() == [1, 2]
    path.write_text("a 1 2 3")
    assert read_word_vectors(path, ["a"])["a"].tolist() == [1, 2, 3]


def test_a_line_that_is_none_is_passed_over(tmp_path, caplog):
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join(["a 1 2", "b 2 1", "c 1", "d 1 x", "e 5 6"]))
    assert set(read_word_vectors(path, "abcde")) == {"a", "b", "e"}
    assert "2 lines are no word with 2 numbers and are passed over. The first is line 3" in caplog.text


@pytest.mark.parametrize("line", ["", "alone", "a b c", "{}"])
def test_another_format(line, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(line + "\nb 1 2")
    with pytest.raises(ValueError, match="line 1: expected a word and the numbers of its vector"):
        read_word_vectors(path, ["b"])
