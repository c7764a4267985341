import os

from transformers import BertweetTokenizer

from processing.features.tokenizer_training import train_wordpiece
from processing.jobs import digests
from processing.jobs.digests import (
    code_digest,
    files_digest,
    picture_id,
    pictures_digest,
    tokenizer_digest,
)


def test_the_code_of_the_room(tmp_path, monkeypatch):
    assert code_digest() == code_digest()
    digests_before = []
    for place in ("one", "other"):  # where the project lies does not count
        room = tmp_path / place / "processing"
        (room / "jobs").mkdir(parents=True)
        monkeypatch.setattr(digests, "__file__", str(room / "jobs" / "digests.py"))
        for name, text in (("a.py", "1"), ("jobs/b.py", "1"), ("jobs/b.py", "2"), ("note.txt", "1")):
            (room / name).write_text(text)
            digests_before.append(code_digest.__wrapped__())
    assert digests_before[:4] == digests_before[4:], "the same files at another place"
    assert len(set(digests_before)) == 3 and digests_before[2] == digests_before[3], "only code counts"


def test_files_digest(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "folder").mkdir()
    arguments = ([str(tmp_path / "a"), str(tmp_path / "absent")], [str(tmp_path / "folder")])
    digests = [files_digest(*arguments), files_digest(*arguments)]
    (tmp_path / "a").write_text("2")
    digests.append(files_digest(*arguments))
    (tmp_path / "folder" / "b").touch()
    digests.append(files_digest(*arguments))
    assert digests[0] == digests[1] and len(set(digests)) == 3
    (tmp_path / "folder" / "round").symlink_to(tmp_path / "folder")
    (tmp_path / "folder" / "nowhere").symlink_to("gone")
    (tmp_path / "folder" / "cache").mkdir()
    (tmp_path / "folder" / "cache" / "c").touch()
    passed = {str(tmp_path / "folder" / name) for name in ("cache", "round")}
    assert files_digest(*arguments, passed) == digests[-1] != files_digest(*arguments)


def test_picture_id(tmp_path):
    file = tmp_path / "picture"
    source = {"bytes": None, "path": str(file)}
    absent = picture_id(source)
    file.write_bytes(b"1")
    os.utime(file, (1, 1))
    first = picture_id(source)
    file.write_bytes(b"2")
    os.utime(file, (1, 1))
    assert len({absent, first, picture_id(source)}) == 3
    os.utime(file, (2, 2))
    assert {picture_id(given) for given in (source, str(file), file, b"2", {"bytes": b"2", "path": None})} == {
        picture_id(source)
    }
    os.mkfifo(tmp_path / "pipe")
    assert picture_id(tmp_path / "pipe") != picture_id(tmp_path / "gone")
    data = {"train": {"image": [source, None], "aux_crops": [[source], []]}}
    before = pictures_digest(data, ["image", "aux_crops"])
    file.write_bytes(b"3")
    assert pictures_digest(data, ["image", "aux_crops"]) != before


def test_a_digest_of_a_tokenizer_follows_what_it_makes_of_texts(tmp_path):
    def wordpiece(*words):
        return train_wordpiece(words, 60)

    def python(vocabulary, folder):
        folder.mkdir()
        (folder / "vocab.txt").write_text(vocabulary)
        (folder / "bpe.codes").write_text("J o 1\n")
        return BertweetTokenizer(vocab_file=str(folder / "vocab.txt"), merges_file=str(folder / "bpe.codes"))

    used = wordpiece("Jordan")
    used("Jordan", truncation=True, max_length=3)
    assert tokenizer_digest(used) == tokenizer_digest(wordpiece("Jordan")) != tokenizer_digest(wordpiece("Paris"))
    digests = [
        tokenizer_digest(python(text, tmp_path / name))
        for name, text in zip("abc", ("J 1\n", "J 1\n", "P 1\n"), strict=True)
    ]
    assert digests[0] == digests[1] != digests[2]
