"""
Datasets builder for MNRE: tweets with two marked entities, the relation between them, pictures and crops.

    builder = MNRE(data_dir="data/mnre")
    builder.download_and_prepare()
    dataset = builder.as_dataset()
    print(builder.report)
"""

import ast
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import datasets

from processing.labels import NO_RELATION
from processing.rows.reporting_builder import ReportingBuilderConfig
from processing.rows.row_features import re_features

from .archive import Archive, ArchiveBuilder, ArchiveRow, decoded


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


class Entity(NamedTuple):
    """An entity of a tweet; `start` and `end` are word indices, `end` exclusive."""

    name: str
    start: int
    end: int


class RelationRow(NamedTuple):
    """A tweet of a text file with two entities; `image_id` is the file name of its picture."""

    image_id: str
    tokens: list[str]
    head: Entity
    tail: Entity
    relation: str


def read_relation_rows(path: str, relations: Sequence[str] = MNRE_RELATIONS) -> Iterator[RelationRow]:
    """
    The rows of a text file: a Python dict literal a line, with keys `token`, `h`, `t` (each `name` and `pos`),
    `img_id` and `relation`. No code in it is run.

    Raises:
        ValueError: with file and line, for anything else in the file.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            text = decoded(line, where, "utf-8-sig" if number == 1 else "utf-8").strip()
            if text:
                yield _relation_row(text, where, relations)


def _relation_row(text: str, where: str, relations: Sequence[str]) -> RelationRow:
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
        raise ValueError(f"{where}: unknown relation {values['relation']!r}; known are {', '.join(relations)}.")
    head, tail = (_entity(values[key], key, len(tokens), where) for key in ("h", "t"))
    return RelationRow(values["img_id"], tokens, head, tail, values["relation"])


def _entity(value: Any, key: str, num_words: int, where: str) -> Entity:
    expected = (
        f"{where}: expected {key} to be a dict of a name and a pos [start, end], 0 <= start < end <= {num_words}"
    )
    try:
        name, (start, end) = value["name"], value["pos"]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{expected}, got {value!r:.80}.") from error
    is_span = type(start) is int and type(end) is int and 0 <= start < end <= num_words
    if not (isinstance(name, str) and is_span):
        raise ValueError(f"{expected}, got {value!r:.80}.")
    return Entity(name, start, end)


@dataclass(frozen=True)
class MNREArchive(Archive):
    """
    The layout of the published archive.

    | below `root` | holds |
    |---|---|
    | `txt/ours_{train,val,test}.txt`, or without `txt/` | the rows |
    | `ours_rel2id.json` | the ids of the relations |
    | `img_org/{train,val,test}/<image id>` | the pictures |
    | `txt/mre_{train,dev,test}_dict.pth` | number of the row, or image id, -> names in `img_vg/<split>/crops/` |
    | `img_detect/<split>/<split>_img2crop.pth` | image id up to its first dot -> paths `img_detect/...` |

    All but the rows may be absent. A picture that is not in its split's folder is looked for in the others: the
    published code reads those of the test split from the folder of the train split.
    """

    def _in_text_folder(self, *names: str) -> str:
        return self.first_file(*(place for name in names for place in (os.path.join("txt", name), name)))

    @property
    def relations_file(self) -> str:
        """The ids of the relations."""
        return self._in_text_folder("ours_rel2id.json")

    def relations(self) -> list[str]:
        """
        The relations in id order.

        Raises:
            ValueError: for an `ours_rel2id.json` that does not number them from 0 on.
        """
        path = self.relations_file
        if not os.path.isfile(path):
            return list(MNRE_RELATIONS)
        with open(path, encoding="utf-8") as file:
            try:
                ids = json.load(file)
            except ValueError as error:
                raise ValueError(f"{path}: expected JSON: {error}.") from error
        numbered = isinstance(ids, dict) and all(type(number) is int for number in ids.values())
        if not numbered or sorted(ids.values()) != list(range(len(ids))):
            raise ValueError(f"{path}: expected a dict of each relation to its number, from 0 on; got {ids!r:.200}.")
        return sorted(ids, key=ids.__getitem__)

    def features(self) -> datasets.Features:
        return re_features(self.relations())

    def rows(self, split: str) -> Iterator[ArchiveRow]:
        relations = self.relations()
        for row in read_relation_rows(self.text_file(split), relations):
            columns = {
                "tokens": row.tokens,
                "head": row.head._asdict(),
                "tail": row.tail._asdict(),
                "relation": relations.index(row.relation),  # Streaming does not encode.
            }
            yield ArchiveRow(row.image_id, row.image_id, columns)

    def text_file(self, split: str) -> str:
        return self._in_text_folder(f"ours_{self.SPLIT_NAMES[split]}.txt")

    @property
    def images(self) -> str:
        return self.path("img_org")

    def image_folders(self, split: str) -> list[str]:
        own = self.SPLIT_NAMES[split]
        names = [own, *(name for name in self.SPLIT_NAMES.values() if name != own)]
        return [self.path("img_org", name) for name in names]

    def aux_folder(self, split: str) -> str:
        return self.path("img_vg", self.SPLIT_NAMES[split], "crops")

    def aux_names_file(self, split: str) -> str:
        name = self.SPLIT_NAMES[split]
        return self._in_text_folder(f"mre_{name}_dict.pth", f"mre_{name.replace('val', 'dev')}_dict.pth")

    @property
    def rcnn_folder(self) -> str:
        return self.path("img_detect")

    def rcnn_names_file(self, split: str) -> str:
        name = self.SPLIT_NAMES[split]
        return self.path("img_detect", name, f"{name}_img2crop.pth")

    def digest_files(self) -> list[str]:
        return [*super().digest_files(), self.relations_file]


class MNRE(ArchiveBuilder):
    """
    MNRE: tweets, each with two marked entities, the relation between them, a picture and crops of it.

    Source: Zheng et al. 2021, MNRE: A Challenge Multimodal Dataset for Neural Relation Extraction with Visual Evidence
    in Social Media Posts.

    Args:
        data_dir: the folder of the archive, or the one that holds it as `mnre/`. See `MNREArchive` for the layout.
        num_aux_crops, num_rcnn_crops: see `ReportingBuilderConfig`.
        cache_dir, hash, kwargs: as in `datasets.DatasetBuilder`. The default `hash` changes with the raw files and
            with this code, so that data prepared from others are not taken for these.

    Raises:
        ValueError: for no `data_dir`, or a number of crops that is none.
        FileNotFoundError: for a `data_dir` without the text files.
    """

    ARCHIVE = MNREArchive
    BUILDER_CONFIGS = [  # noqa: RUF012
        ReportingBuilderConfig(name="mnre", description="Relations between two entities of a tweet with a picture.")
    ]
