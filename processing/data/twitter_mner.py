"""The builder of Twitter-2015, Twitter-2017 and archives laid out alike, with or without their pictures."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import datasets

from processing.labels import TWITTER_TAGS
from processing.problems import Problem
from processing.rows.loading_report import SkippedRow
from processing.rows.reporting_builder import ReportingBuilderConfig
from processing.rows.row_features import ner_features

from .archive import ArchiveBuilder, ArchiveRow, Layout, read_lines


class Sentence(NamedTuple):
    """A tweet of a text file."""

    image_id: str
    tokens: list[str]
    tags: list[str]


def read_sentences(path: str) -> Iterator[Sentence | SkippedRow]:
    """
    The sentences of a text file: an `IMGID:<id>` line, then a `token<TAB>tag` line per token, then a blank line.

    Type OTHER is called MISC; the tags are else as they stand, strict IOB2 or not. A line of another form costs its
    sentence, which is skipped.
    """
    place, image_id = "", ""  # There is no place between two sentences.
    tokens: list[str] = []
    tags: list[str] = []
    problem: Problem | None = None
    # The empty line behind is for the last sentence of a file that does not end in a blank line.
    for where, line in itertools.chain(read_lines(path), [("", "")]):
        is_header = isinstance(line, str) and line.startswith("IMGID:") and "\t" not in line
        if place and (is_header or line == ""):
            if problem is None and not tokens:
                problem = Problem(_EXPECTED, details="(the sentence has no tokens)")
            yield Sentence(image_id, tokens, tags) if problem is None else SkippedRow(place, problem)
            place, problem = "", None
        if line == "" or problem is not None:
            continue
        if isinstance(line, str) and is_header:
            place, image_id, tokens, tags = where, line.removeprefix("IMGID:").strip(), [], []
            if not image_id:
                problem = Problem(_NO_ID, details=f"(got {line!r:.80})")
        elif isinstance(line, Problem) or not place:
            place, problem = (
                where,
                line if isinstance(line, Problem) else Problem(_NO_ID, details=f"(got {line!r:.80})"),
            )
        elif isinstance(word := _tagged_word(line), Problem):
            place, problem = where, word
        else:
            tokens.append(word[0])
            tags.append(word[1])


_EXPECTED = "each line below an 'IMGID:<id>' line must be 'token<TAB>tag'"
_NO_ID = "each sentence must start with its own 'IMGID:<id>' line, and have no blank line inside"
_UNKNOWN_TAG = f"each tag must be one of {', '.join(TWITTER_TAGS)}, or OTHER for MISC"


def _tagged_word(line: str) -> tuple[str, str] | Problem:
    token, *tags = line.split("\t")
    if len(tags) != 1 or not token:
        return Problem(_EXPECTED, details=f"(got {len(tags) + 1} columns: {line!r:.80})")
    tag = tags[0].replace("OTHER", "MISC") if tags[0] in ("B-OTHER", "I-OTHER") else tags[0]
    return (
        (token, tag) if tag in TWITTER_TAGS else Problem(_UNKNOWN_TAG, details=f"(got {tag!r:.80} of {token!r:.80})")
    )


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

    def read_rows(self, path: str) -> Iterator[ArchiveRow | SkippedRow]:
        for sentence in read_sentences(path):
            if isinstance(sentence, SkippedRow):
                yield sentence
                continue
            tags = [TWITTER_TAGS.index(tag) for tag in sentence.tags]  # Streaming does not encode.
            columns = {"tokens": sentence.tokens, "ner_tags": tags}
            yield ArchiveRow(sentence.image_id, f"{sentence.image_id}.jpg", columns)
