"""The builder of Twitter-2015, Twitter-2017 and archives laid out alike, with or without their pictures."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import datasets

from processing.labels import TWITTER_TAGS
from processing.rows.reporting_builder import ReportingBuilderConfig
from processing.rows.row_features import ner_features

from .archive import ArchiveBuilder, ArchiveRow, Layout, read_lines


class Sentence(NamedTuple):
    """A tweet of a text file."""

    image_id: str
    tokens: list[str]
    tags: list[str]


def read_sentences(path: str) -> Iterator[Sentence]:
    """
    The sentences of a text file: an `IMGID:<id>` line, then a `token<TAB>tag` line per token, then a blank line.

    Type OTHER is called MISC; the tags are else as they stand, strict IOB2 or not. A ValueError names file and line of
    anything else.
    """
    image_id: str | None = None
    start = ""
    tokens: list[str] = []
    tags: list[str] = []
    # The empty line behind is for the last sentence of a file that does not end in a blank line.
    for where, line in itertools.chain(read_lines(path), [(path, "")]):
        is_header = line.startswith("IMGID:") and "\t" not in line
        if image_id is not None and (is_header or not line):
            if not tokens:
                raise ValueError(
                    f"{start}: a sentence without tokens: expected 'token<TAB>tag' lines after "
                    f"'IMGID:{image_id}'. Add them, or remove the sentence."
                )
            yield Sentence(image_id, tokens, tags)
            image_id = None
        if is_header:
            image_id, start, tokens, tags = line.removeprefix("IMGID:").strip(), where, [], []
            if not image_id:
                raise ValueError(f"{where}: expected 'IMGID:<id>', got no id: {line!r}.")
        elif line:
            columns = line.split("\t")
            if len(columns) != 2 or not columns[0]:
                raise ValueError(f"{where}: expected 'token<TAB>tag', got {len(columns)} column(s): {line!r}.")
            if image_id is None:
                raise ValueError(
                    f"{where}: expected an 'IMGID:<id>' line, got token {columns[0]!r}: every sentence "
                    "starts with its own, and has no blank line inside."
                )
            token, tag = columns
            if tag in ("B-OTHER", "I-OTHER"):
                tag = tag.replace("OTHER", "MISC")
            if tag not in TWITTER_TAGS:
                raise ValueError(
                    f"{where}: unknown tag {tag!r} of token {token!r}; expected one of {TWITTER_TAGS}, "
                    "or OTHER for MISC."
                )
            tokens.append(token)
            tags.append(tag)


class TwitterMNER(ArchiveBuilder):
    """
    Twitter-2015 and Twitter-2017: tweets, each with a picture, crops of it, and entities tagged in the text.

    | below the folder of `twitter20YY` | holds |
    |---|---|
    | `train.txt`, `valid.txt` (or `dev.txt`, `val.txt`), `test.txt`, or in `txt/` | the sentences |
    | `twitter20YY_images/<image id>.jpg` | the images |
    | `twitter20YY_{train,val,test}_dict.pth` | `<image id>.jpg` -> names in `twitter20YY_aux_images/<split>/crops/` |
    | `twitterYY_detect/twitterYY_img2crop.pth` | image id up to its first dot -> paths `twitterYY_detect/...` |

    All but the sentences may be absent. The folders of pictures may lie beside that of the sentences, as HVPNeT has
    them.
    """

    BUILDER_CONFIGS = [  # noqa: RUF012
        ReportingBuilderConfig(
            name="twitter2015", description="Zhang et al. 2018, Adaptive Co-attention Network for NER in Tweets"
        ),
        ReportingBuilderConfig(
            name="twitter2017", description="Lu et al. 2018, Visual Attention Model for Name Tagging in Social Media"
        ),
    ]
    LAYOUT = Layout(
        text=("{valid}.txt", "{dev}.txt", "{val}.txt", "txt/{valid}.txt", "txt/{dev}.txt", "txt/{val}.txt"),
        images="{name}_images",
        image_folders=("{name}_images",),
        aux_names=("{name}_{val}_dict.pth",),
        aux_folder="{name}_aux_images/{val}/crops",
        # It lies among the crops; the paths in the published code lead to the two other places.
        rcnn_names=("{short}_detect/{short}_img2crop.pth", "{short}_img2crop.pth", "{name}_img2crop.pth"),
        rcnn_folder="{short}_detect",
    )

    def row_features(self) -> datasets.Features:
        return ner_features(TWITTER_TAGS)

    def read_rows(self, path: str) -> Iterator[ArchiveRow]:
        for sentence in read_sentences(path):
            tags = [TWITTER_TAGS.index(tag) for tag in sentence.tags]  # Streaming does not encode.
            columns = {"tokens": sentence.tokens, "ner_tags": tags}
            yield ArchiveRow(sentence.image_id, f"{sentence.image_id}.jpg", columns)
