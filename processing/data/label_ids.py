"""Labels in the order of their ids, as files beside a data set or a checkpoint tell them; hidden labels."""

import os
from typing import Any

from processing.problems import ProblemError

from .literals import MAX_LITERAL, parse_json
from .row_limits import find_problem


def is_hidden(answer: Any) -> bool:
    """
    Whether a label, or every one of a list of tags, is none: absent, negative as `datasets` writes it, or what stands
    for it in the files of shared tasks.
    """
    if isinstance(answer, list):
        return all(map(is_hidden, answer))
    return answer in (None, "", "_", "-", "?") or (type(answer) is int and answer < 0)


def read_label_ids(path: str | os.PathLike) -> list[str]:
    """
    The labels of a JSON file in the order of their ids: a dict such as `{"None": 0, ...}`, as in `ours_rel2id.json` of
    DeepKE and `label.json` of tner, or such a dict as its `label2id`, as in the `config.json` of a model.

    Raises:
        ValueError: for one that does not number them from 0 on, and for one of more than `MAX_LITERAL` characters.
    """
    with open(path, encoding="utf-8") as file:
        try:
            text = file.read(MAX_LITERAL + 1)
            if len(text) > MAX_LITERAL:
                raise ValueError(f"it has more than {MAX_LITERAL:,} characters")
            ids = parse_json(text)
            if isinstance(ids, dict) and (problem := find_problem(ids)) is not None:
                raise ProblemError(problem)
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON: {error}.") from error
    if isinstance(ids, dict) and isinstance(ids.get("label2id"), dict):
        ids = ids["label2id"]
    numbered = isinstance(ids, dict) and all(type(number) is int for number in ids.values())
    if not numbered or sorted(ids.values()) != list(range(len(ids))):
        raise ValueError(f"{path}: expected a dict of each label to its number, from 0 on; got {ids!r:.200}.")
    return sorted(ids, key=ids.__getitem__)
