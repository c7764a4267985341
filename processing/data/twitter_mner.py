"""
Datasets builder for Twitter-2015, Twitter-2017 and archives laid out alike, with or without their pictures.

    builder = TwitterMNER(config_name="twitter2017", data_dir="data/twitter2017")
    builder.download_and_prepare()
    dataset = builder.as_dataset()
    print(builder.report)
"""

import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import datasets

from processing.images import check_image
from processing.jobs.digests import files_digest
from processing.labels import TWITTER_TAGS, bio_tags
from processing.rows.loading_report import LoadingReport, SplitReport
from processing.rows.picture_files import PictureFolder, PictureReader, crop_names_if_any
from processing.rows.reporting_builder import ReportingBuilder, ReportingBuilderConfig
from processing.rows.row_features import ner_features


# Split -> its text file, and the split's name in the names of the other files.
SPLIT_FILES = {"train": ("train.txt", "train"), "validation": ("valid.txt", "val"), "test": ("test.txt", "test")}


class Sentence(NamedTuple):
    line: int
    image_id: str
    tokens: list[str]
    tags: list[str]


def read_sentences(path: str) -> Iterator[Sentence]:
    """
    The sentences of a text file: an `IMGID:<id>` line, then a `token<TAB>tag` line per token, then a blank line.

    Type OTHER is called MISC; the tags are else as they stand, strict IOB2 or not.

    Raises:
        ValueError: with file and line, for anything else in the file.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise ValueError(f"{path}:{number}: expected UTF-8, got byte 0x{byte:02x}; save the file as UTF-8.") from error

    image_id: str | None = None
    start = 0
    tokens: list[str] = []
    tags: list[str] = []
    # Only "\n" ends a line: tokens hold characters at which str.splitlines() breaks and which str.strip() removes. The
    # empty line behind is for the last sentence of a file that does not end in a blank line.
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        line = line.removesuffix("\r")
        is_header = line.startswith("IMGID:") and "\t" not in line
        if image_id is not None and (is_header or not line):
            if not tokens:
                raise ValueError(
                    f"{path}:{start}: a sentence without tokens: expected 'token<TAB>tag' lines after "
                    f"'IMGID:{image_id}'. Add them, or remove the sentence."
                )
            yield Sentence(start, image_id, tokens, tags)
            image_id = None
        if is_header:
            image_id, start, tokens, tags = line.removeprefix("IMGID:").strip(), number, [], []
            if not image_id:
                raise ValueError(f"{path}:{number}: expected 'IMGID:<id>', got no id: {line!r}.")
        elif line:
            columns = line.split("\t")
            if len(columns) != 2 or not columns[0]:
                raise ValueError(f"{path}:{number}: expected 'token<TAB>tag', got {len(columns)} column(s): {line!r}.")
            if image_id is None:
                raise ValueError(
                    f"{path}:{number}: expected an 'IMGID:<id>' line, got token {columns[0]!r}: every sentence "
                    "starts with its own, and has no blank line inside."
                )
            token, tag = columns
            if tag in ("B-OTHER", "I-OTHER"):
                tag = tag.replace("OTHER", "MISC")
            if tag not in TWITTER_TAGS:
                raise ValueError(
                    f"{path}:{number}: unknown tag {tag!r} of token {token!r}; expected one of {TWITTER_TAGS}, "
                    "or OTHER for MISC."
                )
            tokens.append(token)
            tags.append(tag)


class TwitterSplit(NamedTuple):
    """All that the archive says of one split; pictures are named, not yet looked for."""

    sentences: tuple[Sentence, ...]
    images: PictureFolder | None
    aux_folder: PictureFolder
    aux_names: dict[str | int, list[str]]
    rcnn_folder: PictureFolder
    rcnn_names: dict[str | int, list[str]]


@dataclass(frozen=True)
class TwitterArchive:
    """
    The layout of one year of the published archive, `name` being `twitter2015` or `twitter2017`.

    | below `root` | holds |
    |---|---|
    | `train.txt`, `valid.txt`, `test.txt` | the sentences |
    | `<name>_images/<image id>.jpg` | the images |
    | `<name>_<split>_dict.pth` | `<image id>.jpg` -> names in `<name>_aux_images/<split>/crops/` |
    | `twitterYY_detect/twitterYY_img2crop.pth` | image id up to its first dot -> paths `twitterYY_detect/...` |

    All but the sentences may be absent.
    """

    root: str
    name: str

    @classmethod
    def find(cls, data_dir: str | os.PathLike, name: str, other_names: tuple[str, ...] = ()) -> "TwitterArchive":
        """
        The archive at `data_dir`, which is the year's folder or holds it.

        Raises:
            FileNotFoundError: where the text files are not there.
            ValueError: where the folder holds another year.
        """
        data_dir = os.path.abspath(os.path.expanduser(data_dir))
        text_files = [text_file for text_file, _ in SPLIT_FILES.values()]
        found = []
        for root in (data_dir, os.path.join(data_dir, name)):
            entries = sorted(os.listdir(root)) if os.path.isdir(root) else None
            if entries is not None and set(text_files) <= set(entries):
                break
            listing = "is no folder" if entries is None else f"holds {', '.join(entries[:20]) or 'nothing'}"
            found.append(f"{root} {listing}{', ...' if entries and len(entries) > 20 else ''}")
        else:
            raise FileNotFoundError(
                f"No {name} archive at data_dir={data_dir!r}: looked for {', '.join(text_files)} in the folder and in "
                f"{name}/ below it; {'; '.join(found)}. Pass the folder that holds the three files."
            )
        marks = {entry.split("_")[0] for entry in entries}
        for other in other_names:
            if name not in marks and (other in marks or os.path.basename(root) == other):
                raise ValueError(
                    f"{root} holds {other}, not {name}: pass config_name={other!r}, or data_dir=the folder of {name}."
                )
        return cls(os.path.realpath(root), name)  # One folder, one cache, however its path is written.

    def path(self, *names: str) -> str:
        return os.path.join(self.root, *names)

    @property
    def images(self) -> str:
        return self.path(f"{self.name}_images")

    @property
    def aux_images(self) -> str:
        return self.path(f"{self.name}_aux_images")

    @property
    def detect(self) -> str:
        return self.path(f"{self.name.replace('20', '', 1)}_detect")

    def aux_names_file(self, split: str) -> str:
        return self.path(f"{self.name}_{SPLIT_FILES[split][1]}_dict.pth")

    @property
    def rcnn_names_file(self) -> str:
        """Among the crops; the paths in the published code lead to two other places."""
        name = f"{self.name.replace('20', '', 1)}_img2crop.pth"
        places = (os.path.join(self.detect, name), self.path(name), self.path(f"{self.name}_img2crop.pth"))
        return next((place for place in places if os.path.isfile(place)), places[0])

    def notes(self) -> list[str]:
        """What the archive lacks as a whole, so that no row can have it."""
        # Relative to the root: a data-set card publishes the notes.
        images, rcnn, *aux = (
            os.path.relpath(path, self.root)
            for path in (self.images, self.rcnn_names_file, *map(self.aux_names_file, SPLIT_FILES))
        )
        no_images = not os.path.isdir(self.path(images))
        no_aux = [name for name in aux if not os.path.isfile(self.path(name))]
        no_rcnn = not os.path.isfile(self.path(rcnn))
        if no_images and no_rcnn and len(no_aux) == len(SPLIT_FILES):
            return [f"no images folder found at {images}: text only"]
        notes = [f"no images folder found at {images}: no row has its image"] if no_images else []
        notes += [f"no list of aux crops found at {name}: no row of the split has any" for name in no_aux]
        return notes + ([f"no list of rcnn crops found at {rcnn}: no row has any"] if no_rcnn else [])

    def read(self, split: str) -> TwitterSplit:
        """
        Raises:
            ValueError: for a text file or a list of crops with anything unexpected in it.
        """
        text_file, name = SPLIT_FILES[split]
        aux_folder = os.path.join(self.aux_images, name, "crops")
        return TwitterSplit(
            sentences=tuple(read_sentences(self.path(text_file))),
            images=PictureFolder(self.images, self.images) if os.path.isdir(self.images) else None,
            aux_folder=PictureFolder(aux_folder, aux_folder),
            aux_names=crop_names_if_any(self.aux_names_file(split)),
            rcnn_folder=PictureFolder(self.root, self.detect),
            rcnn_names=crop_names_if_any(self.rcnn_names_file),
        )

    def digest(self) -> str:
        """Changes with the text, the lists, the listing of the pictures, and the code that reads them."""
        parts: list[Any] = [check_image, bio_tags, ner_features, PictureReader, SplitReport]
        code = [__file__, *map(inspect.getfile, parts)]
        texts = [self.path(text_file) for text_file, _ in SPLIT_FILES.values()]
        lists = [*map(self.aux_names_file, SPLIT_FILES), self.rcnn_names_file]
        return files_digest([*code, *texts, *lists], [self.images, self.aux_images, self.detect], self.root)


class TwitterMNER(ReportingBuilder):
    """
    Twitter-2015 and Twitter-2017: tweets, each with a picture, crops of it, and entities tagged in the text.

    Every picture is decoded once while preparing. What is absent or unreadable is None, or not in its list, and is in
    the `report`.

    Args:
        config_name: `"twitter2015"` or `"twitter2017"`.
        data_dir: the folder of that year, or the one that holds it. See `TwitterArchive` for the layout.
        num_aux_crops, num_rcnn_crops: see `ReportingBuilderConfig`.
        cache_dir, hash, kwargs: as in `datasets.DatasetBuilder`. The default `hash` changes with the raw files and
            with this code, so that data prepared from others are not taken for these.

    Raises:
        ValueError: for no or an unknown `config_name`, no `data_dir`, or one of another year.
        FileNotFoundError: for a `data_dir` without the text files.
    """

    BUILDER_CONFIG_CLASS = ReportingBuilderConfig
    BUILDER_CONFIGS = [  # noqa: RUF012
        ReportingBuilderConfig(
            name="twitter2015", description="Zhang et al. 2018, Adaptive Co-attention Network for NER in Tweets"
        ),
        ReportingBuilderConfig(
            name="twitter2017", description="Lu et al. 2018, Visual Attention Model for Name Tagging in Social Media"
        ),
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
        names = tuple(self.builder_configs)
        # With a data_dir and no name, datasets would make up a configuration.
        if config_name is None or config_name not in names:
            raise ValueError(f"config_name must be one of {names}, got {config_name!r}.")
        if data_dir is None:
            raise ValueError(
                f"data_dir is needed: nothing is downloaded. Pass the folder of the {config_name} archive, the one "
                "with train.txt, valid.txt and test.txt, or the folder that holds it."
            )
        archive = TwitterArchive.find(data_dir, config_name, tuple(name for name in names if name != config_name))
        super().__init__(
            cache_dir=cache_dir,
            dataset_name=dataset_name,
            config_name=config_name,
            hash=hash or archive.digest(),
            data_dir=archive.root,
            **kwargs,
        )

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=self.config.description,
            features=ner_features(TWITTER_TAGS),
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        archive = TwitterArchive(self.config.data_dir, self.config.name)
        self._report = LoadingReport(notes=archive.notes())
        # Read here, since datasets wraps what _generate_examples raises and hides file and line in the cause. The
        # source is no list: of lists, datasets makes shards.
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"split": split, "source": archive.read(split)})
            for split in SPLIT_FILES
        ]

    def _generate_examples(self, split: str, source: TwitterSplit) -> Iterator[tuple[str, dict[str, Any]]]:
        report = self._start_split(split)
        reader = PictureReader(self.config.data_dir, report)

        for index, sentence in enumerate(source.sentences):
            row_id = f"{split}-{index}"
            file_name = f"{sentence.image_id}.jpg"
            aux_names = source.aux_names.get(file_name, [])
            rcnn_names = source.rcnn_names.get(file_name.split(".")[0], [])
            images = reader.named(row_id, "images", source.images, [file_name]) if source.images else []
            row: dict[str, Any] = {
                "id": row_id,
                "image_id": sentence.image_id,
                "tokens": sentence.tokens,
                "ner_tags": [TWITTER_TAGS.index(tag) for tag in sentence.tags],  # Streaming does not encode.
                "image": images[0] if images else None,
                "aux_crops": reader.crops(row_id, source.aux_folder, aux_names, self.config.num_aux_crops),
                "rcnn_crops": reader.crops(row_id, source.rcnn_folder, rcnn_names, self.config.num_rcnn_crops),
            }
            reader.count(row)
            yield row_id, row
