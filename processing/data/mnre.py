"""The builder of MNRE: tweets with two marked entities, the relation between them, pictures and crops."""

import ast
import os
from collections.abc import Iterator, Sequence
from typing import Any

import datasets

from processing.labels import NO_RELATION
from processing.problems import ProblemError
from processing.rows.reporting_builder import ReportingBuilderConfig
from processing.rows.row_features import re_features

from .archive import ArchiveBuilder, ArchiveRow, Layout, read_lines
from .label_ids import read_label_ids
from .own.spans import check_name


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


def read_relation_rows(path: str, relations: Sequence[str] = MNRE_RELATIONS) -> Iterator[ArchiveRow]:
    """
    The rows of a text file: a Python dict literal a line, with keys `token`, `h`, `t` (each `name` and `pos`),
    `img_id` and `relation`. No code in it is run. A ValueError names file and line of anything else.
    """
    for where, text in read_lines(path):
        if text.strip():
            yield _relation_row(text.strip(), where, relations)


def _relation_row(text: str, where: str, relations: Sequence[str]) -> ArchiveRow:
    try:
        values = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"{where}: expected a Python dict of plain values, got {text[:80]!r}.") from error
    keys = ("token", "h", "t", "img_id", "relation")
    if not isinstance(values, dict) or not set(keys) <= set(values):
        got = sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"{where}: expected a dict with the keys {', '.join(keys)}, got {got}.")
    tokens = values["token"]
    if not (isinstance(tokens, list) and tokens and all(isinstance(token, str) and token for token in tokens)):
        raise ValueError(f"{where}: expected token to be a list of words, got {tokens!r:.80}.")
    if not isinstance(values["img_id"], str) or not values["img_id"]:
        raise ValueError(f"{where}: expected img_id to be the picture's file name, got {values['img_id']!r:.80}.")
    if values["relation"] not in relations:
        raise ValueError(
            f"{where}: unknown relation {values['relation']!r}; known are {', '.join(relations)}. A file "
            "ours_rel2id.json beside the texts, a dict of each relation to its number from 0 on, makes others known. "
            "Where none of them is named None, name the one that means no relation by negative_relation, for example "
            "--negative_relation none."
        )
    entities = {name: _entity(values[name[0]], name[0], tokens, where) for name in ("head", "tail")}
    relation = relations.index(values["relation"])  # Streaming does not encode.
    return ArchiveRow(values["img_id"], values["img_id"], {"tokens": tokens, **entities, "relation": relation})


def _entity(value: Any, key: str, tokens: Sequence[str], where: str) -> dict[str, Any]:
    expected = (
        f"{where}: expected {key} to be a dict of a name and a pos [start, end], 0 <= start < end <= {len(tokens)}"
    )
    try:
        name, (start, end) = value["name"], value["pos"]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{expected}, got {value!r:.80}.") from error
    is_span = type(start) is int and type(end) is int and 0 <= start < end <= len(tokens)
    if not (isinstance(name, str) and is_span):
        raise ValueError(f"{expected}, got {value!r:.80}.")
    try:
        check_name(name, tokens, start, end, key)
    except ProblemError as error:
        raise ProblemError(error.problem, where) from error
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

    def read_rows(self, path: str) -> Iterator[ArchiveRow]:
        return read_relation_rows(path, self.info.features["relation"].names)
