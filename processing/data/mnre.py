"""The builder of MNRE: tweets with two marked entities, the relation between them, pictures and crops."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import datasets

from processing.labels import NO_RELATION
from processing.problems import Problem, ProblemError
from processing.rows.loading_report import SkippedRow
from processing.rows.reporting_builder import ReportingBuilderConfig
from processing.rows.row_features import re_features

from .archive import ArchiveBuilder, ArchiveRow, Layout, read_lines
from .label_ids import read_label_ids
from .literals import parse_python
from .own.spans import bad_column, check_name
from .row_limits import find_problem


# In the order of the published ids; an archive's own `ours_rel2id.json` wins.
MNRE_RELATIONS = (
    NO_RELATION,
    "/loc/loc/contain",
    "/misc/loc/held_on",
    "/misc/misc/part_of",
    "/org/loc/locate_at",
    "/org/org/alternate_names",
    "/org/org/subsidiary",
    "/per/loc/place_of_birth",
    "/per/loc/place_of_residence",
    "/per/misc/awarded",
    "/per/misc/nationality",
    "/per/misc/present_in",
    "/per/misc/race",
    "/per/misc/religion",
    "/per/org/member_of",
    "/per/per/alternate_names",
    "/per/per/alumi",
    "/per/per/charges",
    "/per/per/couple",
    "/per/per/neighbor",
    "/per/per/parent",
    "/per/per/peer",
    "/per/per/siblings",
)


def read_relation_rows(path: str, relations: Sequence[str] = MNRE_RELATIONS) -> Iterator[ArchiveRow | SkippedRow]:
    """
    The rows of a text file: a Python dict literal a line, with keys `token`, `h`, `t` (each `name` and `pos`),
    `img_id` and `relation`, which is one of the `relations`. No code in it is run. Anything else is a row that is
    skipped.
    """
    for where, text in read_lines(path):
        if isinstance(text, str) and not text.strip():
            continue
        try:
            yield _relation_row(text, relations)
        except ProblemError as error:
            yield SkippedRow(where, error.problem)


def _relation_row(text: str | Problem, relations: Sequence[str]) -> ArchiveRow:
    """A ProblemError tells what is wrong with the row."""
    if isinstance(text, Problem):
        raise ProblemError(text)
    keys = ("token", "h", "t", "img_id", "relation")
    try:
        values = parse_python(text.strip())
    except ValueError as error:
        raise bad_column("the line must be a Python dict of plain values", got=text) from error
    if not isinstance(values, dict) or not set(keys) <= set(values):
        raise bad_column(f"the line must be a dict with the keys {', '.join(keys)}", got=text)
    if (problem := find_problem(values)) is not None:
        raise ProblemError(problem)
    tokens, image_id, relation = values["token"], values["img_id"], values["relation"]
    if not (isinstance(tokens, list) and tokens and all(isinstance(token, str) and token for token in tokens)):
        raise bad_column("must be a list of words", "token", tokens)
    for name in ("img_id", "relation"):
        if not isinstance(values[name], str) or not values[name]:
            raise bad_column("must be a name", name, values[name])
    columns: dict[str, Any] = {"tokens": tokens, "head": _entity(values, "h"), "tail": _entity(values, "t")}
    if relation not in relations:
        raise bad_column(_UNKNOWN_RELATION, "relation", relation)
    columns["relation"] = relations.index(relation)  # Streaming does not encode.
    return ArchiveRow(image_id, image_id, columns)


_UNKNOWN_RELATION = (
    "must be a known relation; a file ours_rel2id.json beside the texts, a dict of each relation to its number from 0 "
    "on, makes others known"
)


def _entity(values: dict[str, Any], key: str) -> dict[str, Any]:
    tokens, kind = values["token"], "must be a dict of a name and a pos [start, end], words of the row, end exclusive"
    try:
        name, (start, end) = values[key]["name"], values[key]["pos"]
    except (TypeError, KeyError, ValueError) as error:
        raise bad_column(kind, key, values[key]) from error
    is_span = type(start) is int and type(end) is int and 0 <= start < end <= len(tokens)
    if not (isinstance(name, str) and is_span):
        raise bad_column(kind, key, values[key])
    check_name(name, tokens, start, end, key)
    return {"name": name, "start": start, "end": end}


class MNRE(ArchiveBuilder):
    """
    MNRE: tweets, each with two marked entities, the relation between them, a picture and crops of it.

    Source: Zheng et al. 2021, MNRE: A Challenge Multimodal Dataset for Neural Relation Extraction with Visual Evidence
    in Social Media Posts.

    | below the folder | holds |
    |---|---|
    | `txt/ours_{train,val,test}.txt`, or without `txt/` | the rows; also as `mnre_txt/mnre_{train,val,test}.txt` |
    | `ours_rel2id.json`, or in `txt/` | the ids of the relations |
    | `img_org/{train,val,test}/<image id>` | the pictures |
    | `txt/mre_{train,dev,test}_dict.pth` | number of the row, or image id, -> names in `img_vg/<split>/crops/` |
    | `img_detect/<split>/<split>_img2crop.pth` | image id up to its first dot -> paths `img_detect/...` |

    All but the rows may be absent. A picture that is not in its split's folder is looked for in the others: the
    published code reads those of the test split from the folder of the train split.
    """

    BUILDER_CONFIGS = [  # noqa: RUF012
        ReportingBuilderConfig(name="mnre", description="Relations between two entities of a tweet with a picture.")
    ]
    RELATION_IDS = ("txt/ours_rel2id.json", "ours_rel2id.json", "mnre_txt/ours_rel2id.json")
    LAYOUT = Layout(
        text=("txt/ours_{val}.txt", "ours_{val}.txt", "mnre_txt/mnre_{val}.txt", "mnre_{val}.txt"),
        images="img_org",
        image_folders=("img_org/{val}", "img_org/train", "img_org/val", "img_org/test"),
        aux_names=("txt/mre_{val}_dict.pth", "mre_{val}_dict.pth", "txt/mre_{dev}_dict.pth", "mre_{dev}_dict.pth"),
        aux_folder="img_vg/{val}/crops",
        rcnn_names=("img_detect/{val}/{val}_img2crop.pth",),
        rcnn_folder="img_detect",
        others=(RELATION_IDS,),
    )

    def row_features(self) -> datasets.Features:
        path = self.archive.file(self.RELATION_IDS)
        return re_features(read_label_ids(path) if os.path.isfile(path) else MNRE_RELATIONS)

    def read_rows(self, path: str) -> Iterator[ArchiveRow | SkippedRow]:
        return read_relation_rows(path, self.info.features["relation"].names)
