import gzip
import struct

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
    lines = ["a 1 2", "b 2 1", "c 1", "d 1 x", "e 5 6", "f nan 1", "g 1 -inf", "h 1e39 1"]
    path.write_text("\n".join(lines))
    assert set(read_word_vectors(path, "abcdefgh")) == {"a", "b", "e"}
    assert "5 lines are no word with 2 finite numbers and are passed over. The first is line 3" in caplog.text


@pytest.mark.parametrize("line", ["", "alone", "a b c", "{}", "a nan nan"])
def test_another_format(line, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(line + "\nb 1 2")
    with pytest.raises(ValueError, match="line 1: expected a word and the numbers of its vector"):
        read_word_vectors(path, ["b"])


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"a 1 2"), b"1 2\na " + struct.pack("<2f", 1, -2.5), "Zo\xeb 1 2\n".encode("latin-1")],
    ids=["compressed", "binary", "latin-1"],
)
def test_no_text_in_utf8(content, tmp_path):
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"vectors is no text in UTF-8\. Word vectors are read in .* Unpack a"):
        read_word_vectors(path, ["a"])


@pytest.mark.parametrize("content", ["", "6 3\n"])
def test_no_vectors(content, tmp_path):
    path = tmp_path / "vectors"
    path.write_text(content)
    with pytest.raises(ValueError, match="vectors has no word vectors"):
        read_word_vectors(path, ["a"])
