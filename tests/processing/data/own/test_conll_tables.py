import pytest
from PIL import Image

from processing.data.own.conll_tables import conll_rows, is_conll
from processing.data.own.file_mner import TEXTS_ALONE, FileMNER
from processing.data.own.tables import read_table


WNUT = "Ana\tB-person\nsang\tO\nBlue\tB-creative-work\nSong\tI-creative-work\n\t\nin\tO\nOslo\tB-location\n"
TWEETS = [
    (
        1,
        {
            "tokens": ["Ana", "sang", "Blue", "Song"],
            "ner_tags": ["B-person", "O", "B-creative-work", "I-creative-work"],
        },
    ),
    (6, {"tokens": ["in", "Oslo"], "ner_tags": ["O", "B-location"]}),
]


def read(write, content):
    return [
        (number, row if isinstance(row, dict) else str(row)) for number, row in conll_rows(write(content, "x.conll"))
    ]


@pytest.mark.parametrize("name", ["x.conll", "x.txt", "x.CONLL"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tweets(write, name, end):
    assert list(read_table(write("\ufeff" + WNUT.replace("\n", end), name))) == TWEETS


def test_columns_between_and_document_starts(write):
    conll_2003 = (
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n  \n-DOCSTART- -X- O O\nPeter  NNP B-NP  B-PER"
    )
    assert read(write, conll_2003) == [
        (3, {"tokens": ["EU", "rejects"], "ner_tags": ["B-ORG", "O"]}),
        (7, {"tokens": ["Peter"], "ner_tags": ["B-PER"]}),
    ]


def test_comments_and_words_that_look_like_them(write):
    content = (
        "# global.columns = FORM NER:TAG\n# sent_id = 7\n# text = # O\n# O\n#tag O\n\n# id a-1\tdomain=train\nb O\n"
    )
    assert read(write, content) == [
        (4, {"id": "7", "tokens": ["#", "#tag"], "ner_tags": ["O", "O"]}),
        (8, {"id": "a-1", "tokens": ["b"], "ner_tags": ["O"]}),
    ]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("#id\tO\nb\tO\n", ["#id", "b"]),
        ("#text\t=\tO\nb\tx\tO\n", ["#text", "b"]),
        ("#text = O\nb x O\nc x O\n", ["#text", "b", "c"]),
        ("# text = O\nb x y O\nc x y O\n", ["#", "b", "c"]),
        ("IMGID:7 O\nb O\nc O\n", ["IMGID:7", "b", "c"]),
        ("# id 7\tO\nb\tO\n", ["# id 7", "b"]),
        ("#a=b\n#c\n", ["#a=b", "#c"]),
    ],
)
def test_words_that_look_like_comments_stay(write, lines, words):
    assert [row["tokens"] for _, row in read(write, lines)] == [words]


@pytest.mark.parametrize("comment", ["#id=7\n# newpar", "# newdoc id = 3\n# id 7", "# sent_id = 7\n# text =\n#a = b"])
@pytest.mark.parametrize("between", ["\t", " "])
def test_comments_without_all_columns(write, comment, between):
    if between == " " and "#a" in comment:
        comment = comment.replace("#a = b", "#a=b")
    lines = "".join(f"{word}{between}x{between}O\n" for word in "bc")
    ((_, row),) = read(write, f"{comment}\n{lines}")
    assert (row["id"], row["tokens"]) == ("7", ["b", "c"])


def test_pictures(write):
    assert read(write, "IMGID:17_06\nAna\tB-PER\n\nIMGID:9\n\nb\tO") == [
        (2, {"image_id": "17_06", "image": "17_06.jpg", "tokens": ["Ana"], "ner_tags": ["B-PER"]}),
        (4, "there must be words between this line and the next blank line"),
        (6, {"tokens": ["b"], "ner_tags": ["O"]}),
    ]


def test_a_picture_with_its_ending(write):
    rows = [row for _, row in read(write, "IMGID:a/0.jpg\nAna O\nsang O\n\nIMGID:q.PNG\nb O\nc O\n")]
    assert [(row["image_id"], row["image"]) for row in rows] == [("a/0.jpg", "a/0.jpg"), ("q.PNG", "q.PNG")]


def test_words_with_other_spaces(write):
    assert read(write, "a\u00a0b O\n\u3000 O\n")[0][1]["tokens"] == ["a\u00a0b", "\u3000"]
    assert read(write, "New York\tB-LOC\n")[0][1]["tokens"] == ["New York"]


def test_one_column(write):
    assert read(write, "Ana\nsang\n\nso\n") == [(1, {"tokens": ["Ana", "sang"]}), (4, {"tokens": ["so"]})]


@pytest.mark.parametrize(
    ("lines", "place", "message"),
    [
        ("a\tO\nb\n", 4, "expected 2 columns, got 1: 'b'"),
        ("a\tO\tO\n", 3, "expected 2 columns, got 3: "),
        ("\tO\n", 3, "expected 2 columns, got 2: "),
        ("a\tO\nb\t\n", 4, "expected 2 columns, got 2: "),
        ("a\tO\nb\t\xff\n".encode("latin-1"), 4, "the line is not UTF-8"),
    ],
)
def test_a_broken_line_costs_its_tweet(write, lines, place, message):
    lines = lines if isinstance(lines, bytes) else lines.encode()
    first, (number, problem), last = read(write, b"x\tO\n\n" + lines + b"more\tO\n\ny\tO\n")
    assert (first[1]["tokens"], last[1]["tokens"]) == (["x"], ["y"])
    assert number == place and message in problem


def test_numbered_words_are_refused(write):
    ((number, problem),) = read(write, "1 Ana _ B-PER\n2 sang _ O\n")
    assert number == 1 and problem.startswith("the first column must be the word, and it numbers the words")


def test_numbers_are_told_by_the_whole_file(write):
    problems = read(write, "1 Ana _ B-PER\n\n# id = 7\n1 so _ O\n")
    assert [number for number, _ in problems] == [1, 4]
    assert all("it numbers the words" in problem for _, problem in problems)
    assert "it numbers" in read(write, "1-2\tdu\n1\tde\n2\tle\n")[0][1]
    words = read(write, "1 CD x O\n2 CD x O\n\nAna NN x B-PER\n")
    assert [row["tokens"] for _, row in words] == [["1", "2"], ["Ana"]]
    assert read(write, "1 O\n2 O\n")[0][1]["tokens"] == ["1", "2"]


class TestDecision:
    @pytest.mark.parametrize(
        "content",
        [WNUT, "Ana\tB-PER", "a O\nb B-PER", "a x y S-PER\n\nb x y O", "Ana\tPER\nb\tO\nc\tO", "IMGID:1\na\tO\n"],
    )
    def test_conll(self, write, content):
        assert is_conll(write(content, "x.txt"))

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "Jordan met Paris\n",
            "blood O",
            "take vitamin B-12",
            "1\tJordan met\n2\tso what",
            "a b\nc d\n",
            "Ana\nO\n",
        ],
    )
    def test_texts(self, write, content):
        path = write(content, "x.txt")
        assert not is_conll(path)
        assert all(row.keys() == {"text"} for _, row in read_table(path))

    def test_one_line_of_another_form(self, write):
        (number, problem), (_, row) = read_table(write("what\na O\nb O\n\nc B-PER\n", "x.txt"))
        assert number == 1 and "expected 2 columns, got 1: 'what'" in str(problem)
        assert row["tokens"] == ["c"]


class TestAsData:
    def load(self, place, **options):
        builder = FileMNER(data_dir=place, cache_dir=str(place.parent / "cache"), **options)
        builder.download_and_prepare()
        return builder.as_dataset(), builder.report

    def test_a_folder(self, tmp_path):
        folder = tmp_path / "mine"
        folder.mkdir()
        Image.new("RGB", (8, 6)).save(folder / "1.jpg")
        for name in ("train", "dev", "test"):
            (folder / f"{name}.txt").write_text(f"IMGID:1\n{WNUT}\nbroken\n", encoding="utf-8")
        (folder / "README.txt").write_text("Some words on these data.\n")
        data, report = self.load(folder)
        assert list(data) == ["train", "validation", "test"]
        names = data["train"].features["ner_tags"].feature.names
        assert [[names[tag] for tag in tags] for tags in data["validation"]["ner_tags"]] == [
            row["ner_tags"] for _, row in TWEETS
        ]
        assert [row["image"] is not None for row in data["test"]] == [True, False]
        assert [skipped.where for skipped in report.skipped] == ["train.txt:10", "dev.txt:10", "test.txt:10"]

    def test_a_split_without_the_column_of_tags(self, tmp_path):
        (tmp_path / "train.conll").write_text("Ana\tNN\tB-NP\tB-PER\nsang\tVB\tB-VP\tO\n")
        (tmp_path / "dev.conll").write_text("_\tNN\tB-NP\t_\n\nBo\tNN\tB-NP\t_\n")
        (tmp_path / "test.conll").write_text("Bo\tNN\tB-NP\nsang\tVB\tB-VP\n")
        data, report = self.load(tmp_path)
        assert list(data) == ["train"]
        assert data["train"].features["ner_tags"].feature.names == ["O", "B-PER", "I-PER"]
        validation, test = report.notes[2:4]
        assert validation.startswith("the validation split is left out, since its rows (2) have no labels; predict.py")
        assert "(1) have no labels, or the CoNLL files must have the same number of columns" in test

    def test_texts_are_no_data(self, tmp_path):
        (tmp_path / "train.txt").write_text("Jordan met Paris\n")
        with pytest.raises(ValueError, match=r"train\.txt: expected a word and its tag on each line"):
            self.load(tmp_path / "train.txt")
        with pytest.raises(FileNotFoundError, match=r"or in \.txt with a word and its tag on each line"):
            self.load(tmp_path)

    @pytest.mark.parametrize("name", ["train.txt", "train.conll", "folder"])
    def test_the_reported_case(self, shared, tmp_path, name):
        folder = shared / "cases" / "07-conll-text"
        builder = FileMNER(data_dir=folder / name, cache_dir=str(tmp_path))
        builder.download_and_prepare()
        rows = builder.as_dataset("train")
        names = rows.features["ner_tags"].feature.names
        tags = [[names[tag] for tag in of] for of in rows["ner_tags"]]
        assert tags[1] == ["O", "B-location"] and len(tags) == 2
        assert tags[0] == TWEETS[0][1]["ner_tags"][: len(tags[0])]

    def tagged(self, tmp_path, *names):
        folder = tmp_path / "mine"
        folder.mkdir()
        text = "\n\n".join(f"IMGID:{name}\nAna\tB-PER\nsang\tO" for name in names)
        (folder / "train.conll").write_text(f"{text}\n")
        return folder

    def test_pictures_of_other_endings(self, tmp_path):
        folder = self.tagged(tmp_path, "1", "2", "3.png")
        for name in ("1.jpg", "2.webp", "3.png"):
            Image.new("RGB", (8, 6)).save(folder / name)
        data, report = self.load(folder, verify_pictures=True)
        assert None not in data["train"]["image"] and not report.absent

    def test_texts_alone(self, tmp_path):
        """Without any picture beside the files the rows are texts alone; with some that no row names, it stops."""
        folder = self.tagged(tmp_path, "1", "2")
        data, report = self.load(folder)
        assert data["train"]["image"] == [None, None] and not report.absent
        assert TEXTS_ALONE in report.notes and "--image_dir" in TEXTS_ALONE
        with pytest.raises(FileNotFoundError, match=r"is missing \(2\); looked in .*\. Name the .* by --image_dir"):
            self.load(folder, image_dir=tmp_path)
        (folder / "photos").mkdir()
        for number in (1, 2):
            Image.new("RGB", (8, 6)).save(folder / "photos" / f"{number}.jpg")
        with pytest.raises(FileNotFoundError, match=r"image is missing \(2\); looked in .*mine\. The first one is"):
            self.load(folder)
        data, report = self.load(folder, image_dir=folder / "photos")
        assert None not in data["train"]["image"] and TEXTS_ALONE not in report.notes
