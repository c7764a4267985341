"""
Datasets builder for MNRE: tweets with two marked entities, the relation between them, pictures and crops.

    builder = MNRE(data_dir="data/mnre")
    builder.download_and_prepare()
    dataset = builder.as_dataset()
    print(builder.report)
"""

import ast
import inspect
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import datasets

from processing.images import check_image
from processing.jobs.digests import files_digest
from processing.labels import NO_RELATION
from processing.rows.loading_report import LoadingReport, SplitReport
from processing.rows.picture_files import PictureFolder, PictureReader, crop_names_if_any
from processing.rows.reporting_builder import ReportingBuilder, ReportingBuilderConfig
from processing.rows.row_features import re_features


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

# Split -> its name in the names of files and folders.
SPLIT_NAMES = {"train": "train", "validation": "val", "test": "test"}


class Entity(NamedTuple):
    """`start` and `end` are word indices, `end` exclusive."""

    name: str
    start: int
    end: int


class RelationRow(NamedTuple):
    image_id: str
    tokens: list[str]
    head: Entity
    tail: Entity
    relation: str


def read_relation_rows(path: str, relations: list[str] | tuple[str, ...] = MNRE_RELATIONS) -> Iterator[RelationRow]:
    """
    The rows of a text file: a Python dict literal a line, with keys `token`, `h`, `t` (each `name` and `pos`),
    `img_id` and `relation`. No code in it is run.

    Raises:
        ValueError: with file and line, for anything else in the file.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise ValueError(f"{where}: expected UTF-8, got byte 0x{byte:02x}; save the file as UTF-8.") from error
            if text:
                yield _relation_row(text, where, relations)


def _relation_row(text: str, where: str, relations: list[str] | tuple[str, ...]) -> RelationRow:
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


class MNRESplit(NamedTuple):
    """All that the archive says of one split; pictures are named, not yet looked for."""

    rows: tuple[RelationRow, ...]
    image_folders: tuple[str, ...]
    aux_names: dict[str | int, list[str]]
    rcnn_names: dict[str | int, list[str]]


@dataclass(frozen=True)
class MNREArchive:
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

    root: str

    @classmethod
    def find(cls, data_dir: str | os.PathLike) -> "MNREArchive":
        """
        The archive at `data_dir`, or in `mnre/` below it.

        Raises:
            FileNotFoundError: where the text files are not there.
        """
        data_dir = os.path.abspath(os.path.expanduser(data_dir))
        for root in (data_dir, os.path.join(data_dir, "mnre")):
            archive = cls(os.path.realpath(root))  # One folder, one cache, however its path is written.
            if all(os.path.isfile(archive.text_file(split)) for split in SPLIT_NAMES):
                return archive
        names = ", ".join(f"ours_{name}.txt" for name in SPLIT_NAMES.values())
        raise FileNotFoundError(
            f"No MNRE archive at data_dir={data_dir!r}: looked for {names} there, in txt/ and in mnre/ below it. "
            "Pass the folder that holds the three files."
        )

    def path(self, *names: str) -> str:
        return os.path.join(self.root, *names)

    def _text_folder_file(self, *names: str) -> str:
        places = [place for name in names for place in (self.path("txt", name), self.path(name))]
        return next((place for place in places if os.path.isfile(place)), places[0])

    def text_file(self, split: str) -> str:
        return self._text_folder_file(f"ours_{SPLIT_NAMES[split]}.txt")

    def aux_names_file(self, split: str) -> str:
        name = SPLIT_NAMES[split]
        return self._text_folder_file(f"mre_{name}_dict.pth", f"mre_{name.replace('val', 'dev')}_dict.pth")

    def rcnn_names_file(self, split: str) -> str:
        name = SPLIT_NAMES[split]
        return self.path("img_detect", name, f"{name}_img2crop.pth")

    @property
    def relations_file(self) -> str:
        return self._text_folder_file("ours_rel2id.json")

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

    def notes(self) -> list[str]:
        """What the archive lacks as a whole, so that no row can have it."""
        no_images = not os.path.isdir(self.path("img_org"))
        lists = [*map(self.aux_names_file, SPLIT_NAMES), *map(self.rcnn_names_file, SPLIT_NAMES)]
        # Relative to the root: a data-set card publishes the notes.
        absent = [os.path.relpath(path, self.root) for path in lists if not os.path.isfile(path)]
        if no_images and len(absent) == len(lists):
            return ["no images folder found at img_org: text only"]
        notes = ["no images folder found at img_org: no row has its image"] if no_images else []
        return notes + [f"no list of crops found at {path}: no row of the split has any" for path in absent]

    def read(self, split: str, relations: list[str]) -> MNRESplit:
        """
        Raises:
            ValueError: for a text file or a list of crops with anything unexpected in it.
        """
        own = SPLIT_NAMES[split]
        folders = [own, *(name for name in SPLIT_NAMES.values() if name != own)]
        return MNRESplit(
            rows=tuple(read_relation_rows(self.text_file(split), relations)),
            image_folders=tuple(name for name in folders if os.path.isdir(self.path("img_org", name))),
            aux_names=crop_names_if_any(self.aux_names_file(split)),
            rcnn_names=crop_names_if_any(self.rcnn_names_file(split)),
        )

    def digest(self) -> str:
        """Changes with the text, the lists, the listing of the pictures, and the code that reads them."""
        parts: list[Any] = [check_image, re_features, PictureReader, SplitReport]
        code = [__file__, *map(inspect.getfile, parts)]
        readers = (self.text_file, self.aux_names_file, self.rcnn_names_file)
        files = [reader(split) for reader in readers for split in SPLIT_NAMES]
        folders = [self.path(name) for name in ("img_org", "img_vg", "img_detect")]
        return files_digest([*code, *files, self.relations_file], folders, self.root)


class MNRE(ReportingBuilder):
    """
    MNRE: tweets, each with two marked entities, the relation between them, a picture and crops of it.

    Source: Zheng et al. 2021, MNRE: A Challenge Multimodal Dataset for Neural Relation Extraction with Visual Evidence
    in Social Media Posts.

    Every picture is decoded once while preparing. What is absent or unreadable is None, or not in its list, and is in
    the `report`.

    Args:
        data_dir: the folder of the archive, or the one that holds it as `mnre/`. See `MNREArchive` for the layout.
        num_aux_crops, num_rcnn_crops: see `ReportingBuilderConfig`.
        cache_dir, hash, kwargs: as in `datasets.DatasetBuilder`. The default `hash` changes with the raw files and
            with this code, so that data prepared from others are not taken for these.

    Raises:
        ValueError: for no `data_dir`, or a number of crops that is none.
        FileNotFoundError: for a `data_dir` without the text files.
    """

    BUILDER_CONFIG_CLASS = ReportingBuilderConfig
    BUILDER_CONFIGS = [  # noqa: RUF012
        ReportingBuilderConfig(name="mnre", description="Relations between two entities of a tweet with a picture.")
    ]

    def __init__(
        self,
        cache_dir: str | None = None,
        dataset_name: str | None = None,
        config_name: str | None = None,
        hash: str | None = None,
        *,
        data_dir: str | os.PathLike | None = None,
        **kwargs: Any,
    ):
        if data_dir is None:
            raise ValueError(
                "data_dir is needed: nothing is downloaded. Pass the folder with ours_train.txt, ours_val.txt and "
                "ours_test.txt, or the folder that holds it."
            )
        archive = MNREArchive.find(data_dir)
        super().__init__(
            cache_dir=cache_dir,
            dataset_name=dataset_name,
            config_name=config_name or "mnre",  # With a data_dir and no name, datasets would make one up.
            hash=hash or archive.digest(),
            data_dir=archive.root,
            **kwargs,
        )

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=self.config.description,
            features=re_features(MNREArchive(self.config.data_dir).relations()),
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        archive = MNREArchive(self.config.data_dir)
        self._report = LoadingReport(notes=archive.notes())
        relations = archive.relations()
        # Read here, since datasets wraps what _generate_examples raises and hides file and line in the cause. The
        # source is no list: of lists, datasets makes shards.
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"split": split, "source": archive.read(split, relations)})
            for split in SPLIT_NAMES
        ]

    def _generate_examples(self, split: str, source: MNRESplit) -> Iterator[tuple[str, dict[str, Any]]]:
        report = self._start_split(split)
        archive = MNREArchive(self.config.data_dir)
        reader = PictureReader(archive.root, report)
        aux_folder = archive.path("img_vg", SPLIT_NAMES[split], "crops")
        aux = PictureFolder(aux_folder, aux_folder)
        rcnn = PictureFolder(archive.root, archive.path("img_detect"))
        relation_ids = self.info.features["relation"]

        for index, relation in enumerate(source.rows):
            row_id = f"{split}-{index}"
            images = []
            if source.image_folders:
                folder = self._image_folder(archive, source.image_folders, relation.image_id)
                images = reader.named(row_id, "images", folder, [relation.image_id])
            aux_names = source.aux_names.get(index, source.aux_names.get(relation.image_id, []))
            row: dict[str, Any] = {
                "id": row_id,
                "image_id": relation.image_id,
                "tokens": relation.tokens,
                "head": relation.head._asdict(),
                "tail": relation.tail._asdict(),
                "relation": relation_ids.str2int(relation.relation),  # Streaming does not encode.
                "image": images[0] if images else None,
                "aux_crops": reader.crops(row_id, aux, aux_names, self.config.num_aux_crops),
                "rcnn_crops": reader.crops(
                    row_id,
                    rcnn,
                    source.rcnn_names.get(relation.image_id.split(".")[0], []),
                    self.config.num_rcnn_crops,
                ),
            }
            reader.count(row)
            yield row_id, row

    @staticmethod
    def _image_folder(archive: MNREArchive, names: tuple[str, ...], image_id: str) -> PictureFolder:
        """The first of the folders that has the picture, else the split's own."""
        folders = [PictureFolder(archive.path("img_org", name), archive.path("img_org", name)) for name in names]
        return next((folder for folder in folders if os.path.isfile(folder.find(image_id) or "")), folders[0])
