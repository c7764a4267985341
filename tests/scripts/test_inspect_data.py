import json

import pytest


def test_counts_and_a_page_of_the_sample(run_script, shared, tmp_path):
    page, counts = tmp_path / "page.html", tmp_path / "counts.json"
    printed = run_script(
        "inspect_data.py",
        *("--dataset", "twitter2015", "--data_dir", shared / "data" / "sample" / "twitter2015"),
        *("--cache_dir", tmp_path / "cache", "--output", page, "--json", counts),
    ).stdout
    assert "entities, PER" in printed and f"Written: {page}" in printed
    statistics = json.loads(counts.read_text())
    assert [split["rows"] for split in statistics.values()] == [5, 5, 5]
    assert statistics["train"]["aux_crops"] == {"1": 1, "2": 3, "3": 1}
    content = page.read_text(encoding="utf-8")
    assert content.count("<article") == 15
    # every picture and crop of the sample is on the page
    assert content.count("data:image/jpeg;base64,") == 15 + 10 + 7 + 7 + 11 + 10 + 6
    assert "Game of Thrones<small> MISC</small>" in content


@pytest.fixture
def own_data(tmp_path):
    rows = [
        {
            "id": "a<b",
            "text": "<img src=x onerror=alert(1)> met Paris",
            "spans": [{"start": 33, "end": 38, "label": "<LOC>"}],
        },
        {"id": "c", "text": "nothing here", "spans": []},
    ]
    folder = tmp_path / "tweets"
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def test_a_hostile_tweet_stays_text(run_script, own_data, tmp_path):
    page = tmp_path / "page.html"
    run_script("inspect_data.py", "--dataset", own_data, "--cache_dir", tmp_path / "cache", "--output", page)
    content = page.read_text(encoding="utf-8")
    assert "<img src=x" not in content and "&lt;img src=x onerror" in content
    assert "Paris<small> &lt;LOC&gt;</small>" in content
    assert "train, a&lt;b" in content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "test"], "The split must be one of train, got 'test'"),
        (["--ids", "c", "d"], "No row has the id d. Ids look like 'a<b'"),
        (["--num_samples", "-1"], "num_samples must be 0 or more, got -1"),
    ],
)
def test_what_is_not_there(run_script, own_data, tmp_path, options, message):
    arguments = ("--dataset", own_data, "--cache_dir", tmp_path / "cache", "--output", tmp_path / "page.html")
    assert message in run_script("inspect_data.py", *arguments, *options, exit_code=1).stderr


def test_chosen_rows(run_script, own_data, tmp_path):
    page = tmp_path / "page.html"
    arguments = ("--dataset", own_data, "--cache_dir", tmp_path / "cache", "--output", page, "--ids", "c")
    run_script("inspect_data.py", *arguments)
    content = page.read_text(encoding="utf-8")
    assert content.count("<article") == 1 and "nothing here" in content
