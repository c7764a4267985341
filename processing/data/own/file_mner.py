"""The builder of your own tweets with entities or relations, in any of the formats of `tables` and `forms`."""

import functools
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets

from processing.columns import CROP_COLUMNS, OBJECT_COLUMNS, PICTURE_COLUMNS
from processing.context import CONTEXT
from processing.rows.loading_report import LoadingReport, MovedSpan
from processing.rows.picture_files import PictureFolder, holds_pictures, renumbered
from processing.rows.reporting_builder import ReportingBuilder
from processing.rows.row_features import (
    ner_features,
    re_features,
    with_context,
    with_objects,
    with_several_images,
    with_texts,
)
from processing.tokenizing import check_word_splitter, row_words

from .file_source import FileMNERConfig, FileSource, task_of
from .find_tables import find_tables, source_digest
from .labelled_rows import LabelledRow
from .survey import Survey
from .tables import CONLL_ENDINGS, ending_of
from .tag_schemes import TAG_SCHEMES, to_iob2


TEXTS_ALONE = (
    "the files name pictures (IMGID), and no picture lies in their folder or below: the rows are texts alone; if you "
    "have the pictures, name their folder by --image_dir"
)


class FileMNER(ReportingBuilder):
    """
    Tweets of your own, each with entities, or two of them and their relation, and maybe a picture and crops of it.

    | column | holds |
    |---|---|
    | `tokens`, `ner_tags` | words and a tag for each; in CSV separated by spaces, or a list |
    | `text`, `spans` or `entities` | or a text and `[{"start", "end", "label"}]`, `end` exclusive |
    | `head`, `tail`, `relation` | or a text, or words, and two entities of it, see [`read_pairs`] |
    | `relations` | or, beside entities, `[{"head", "tail", "relation"}]`, where two are places in these |
    | `context` | a text, or a list of texts and `{"kind", "text"}`, read behind the row's own, see [`read_context`] |
    | `text`, `offsets` | beside `tokens`: what these are words of, and `[start, end]` of each |
    | `image` | a path below the image folder, or bytes, or `{"path", "bytes"}`, or a list of such |
    | `aux_crops`, `rcnn_crops` | lists of such; in CSV paths separated by `;` |
    | `id`, `image_id` | a missing id becomes `<split>-<number of the row>`, or `...-2` where a row has that |
    | `aux_objects`, `rcnn_objects` | `[{"label", "score", "box"}]`, in the order of the crops |

    Where the rows have several pictures, `image` is a list in each row, the crops of all of them are one list, and an
    object may have the number of its picture as `image`.

    Rows as annotation tools export them are read as well, see [`in_our_columns`].

    Tags of every usual scheme become IOB2. A text becomes words as [`split_words`] does it, and stays as it was given
    in the column `text`, with the words' `offsets`; a data set of words alone has neither. A span that leaves out an
    ending of its words is widened to whole words, see [`read_labelled_row`]. A row that cannot be used is skipped, a
    picture that cannot is None or not in its list; the `report` names each of them, the label set and its counts. The
    `info.features` are known once the rows have been read.

    Args:
        data_dir: a file, or a folder of files; see `find_tables`.
        task: with `re`, rows that have entities and relations between them are read for the relations, else for the
            entities. Rows with a column `relation` are pairs of entities in any case.
        image_dir, tag_scheme, entity_types, word_splitter, strict: see `FileMNERConfig`.
        cache_dir, kwargs: see [`ReportingBuilder`].
    """

    FOUND_ELSEWHERE = "Name the folder of the pictures by --image_dir, or leave their names out of the files."
    BUILDER_CONFIG_CLASS = FileMNERConfig
    BUILDER_CONFIGS = [  # noqa: RUF012
        FileMNERConfig(name="file", description="Tweets with entities or relations, from files of your own.")
    ]

    def __init__(
        self,
        *,
        cache_dir: str | None = None,
        data_dir: str | os.PathLike | None = None,
        image_dir: str | os.PathLike | None = None,
        entity_types: Sequence[str] | None = None,
        task: str | None = None,
        word_splitter: str = "unicode",
        **kwargs: Any,
    ):
        if data_dir is None:
            raise ValueError("data_dir is needed: pass a file, or the folder with train, validation and test files.")
        check_word_splitter(word_splitter)
        if kwargs.get("tag_scheme") is not None and kwargs["tag_scheme"] not in TAG_SCHEMES:
            raise ValueError(f"tag_scheme must be one of {TAG_SCHEMES}, got {kwargs['tag_scheme']!r}.")
        if entity_types is not None:
            is_names = not isinstance(entity_types, str) and all(
                isinstance(name, str) and name for name in entity_types
            )
            if not is_names or not entity_types or len(set(entity_types)) < len(entity_types):
                raise ValueError(f"entity_types must be distinct names, such as ['PER', 'LOC'], got {entity_types!r}.")
            entity_types = list(entity_types)
        tables = find_tables(data_dir)
        folder = tables.folder if image_dir is None else os.path.realpath(os.path.expanduser(image_dir))
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"image_dir={image_dir!r} is not there: expected the folder of the pictures.")
        super().__init__(
            content=source_digest(tables, folder, cache_dir),
            cache_dir=cache_dir,
            config_name="file",  # With a data_dir and no name, datasets would make one up.
            data_dir=tables.root,
            image_dir=folder,
            entity_types=entity_types,
            task=task_of(tables, task),
            word_splitter=word_splitter,
            **kwargs,
        )
        self._source = FileSource(tables, self.config)
        paths = itertools.chain.from_iterable(tables.splits.values())
        self._is_conll = all(ending_of(path) in CONLL_ENDINGS for path in paths)
        self._is_default_folder = image_dir is None

    @functools.cached_property
    def _is_text_alone(self) -> bool:
        """Whether the files are CoNLL without pictures: the texts of Twitter-2015 and 2017 are also passed on so."""
        return self._is_conll and self._is_default_folder and not holds_pictures(self.config.image_dir)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=self.config.description)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        # Surveyed here, since datasets wraps what _generate_examples raises and hides file and line in the cause.
        survey = self._survey = Survey(self._source)
        features = (ner_features if self.config.task == "ner" else re_features)(survey.labels)
        features = with_texts(features) if survey.keep_texts else features
        features = with_several_images(features) if survey.has_several_images else features
        features = with_context(features) if survey.num_contexts else features
        self.info.features = with_objects(features) if survey.keep_objects else features
        self._report = LoadingReport(notes=survey.notes)
        return [datasets.SplitGenerator(split, gen_kwargs={"split": split}) for split in survey.num_rows]

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        survey, image_dir = self._survey, self.config.image_dir
        folders = dict.fromkeys(PICTURE_COLUMNS, PictureFolder(image_dir, image_dir, self._is_conll))
        reader = self._start_split(split, image_dir, folders, survey.has_several_images)
        report = reader.report
        ids = {label: index for index, label in enumerate(survey.labels)}
        changed = f"{self._source.tables.root} was changed while it was read; load it again."

        for where, labelled in self._source.rows(split, report.skipped, with_pictures=True, ids=survey.ids[split]):
            try:
                answer, num_normalised = _answer(labelled, ids)
            except KeyError:
                raise RuntimeError(changed) from None
            source = labelled.source
            if source.get("image") is not None and self._is_text_alone:
                source = {**source, "image": None}
                if TEXTS_ALONE not in self.report.notes:
                    self.report.notes.append(TEXTS_ALONE)
            pictures, absent = reader.read(labelled.row_id, source)
            row: dict[str, Any] = {
                "id": labelled.row_id,
                "image_id": labelled.image_id,
                "tokens": labelled.tokens,
                **answer,
                **pictures,
            }
            if survey.keep_texts:
                row |= {"text": labelled.text, "offsets": labelled.offsets}
            if survey.num_contexts:
                row[CONTEXT] = labelled.context
            for crops, column in zip(CROP_COLUMNS, OBJECT_COLUMNS, strict=True) if survey.keep_objects else ():
                # They are in the order of the crops; that of a crop which is not used goes with it.
                objects = enumerate(labelled.objects[column][: reader.limit(crops, source)])
                used = [item for index, item in objects if index not in absent[crops]]
                row[column] = (
                    renumbered(used, absent["image"])
                    if survey.has_several_images
                    else [{name: value for name, value in item.items() if name != "image"} for item in used]
                )
            report.counts["rows_skipped"] = len(report.skipped)
            report.counts["tags_normalised"] += num_normalised
            report.counts["spans_moved"] += len(labelled.moved)
            report.moved += [MovedSpan(where, span, words) for span, words in labelled.moved]
            yield labelled.row_id, row
        report.counts["rows_skipped"] = len(report.skipped)
        # Of Parquet and Arrow the survey reads no pictures: a row whose pictures are damaged is skipped only now.
        if report.counts["rows"] != survey.num_rows[split] and len(report.skipped) <= survey.num_skipped[split]:
            raise RuntimeError(changed)


def _answer(row: LabelledRow, ids: Mapping[str, int]) -> tuple[dict[str, Any], int]:
    """The columns with the answer, as ids since streaming does not encode, and how many tags were normalised."""
    if row.pair is None:
        tags, num_normalised = to_iob2(row.tags)
        return {"ner_tags": [ids[tag] for tag in tags]}, num_normalised
    text, _, offsets = row_words(row._asdict())
    places = {"head": row.pair.head, "tail": row.pair.tail}
    entities = {
        name: {"name": text[offsets[start][0] : offsets[end - 1][1]], "start": start, "end": end}
        for name, (start, end) in places.items()
    }
    return {**entities, "relation": ids[row.pair.relation]}, 0
