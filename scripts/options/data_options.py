"""Options that several commands share, and the choices that their options have."""

import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ifaformer_commands.options.command_line import option


if TYPE_CHECKING:
    from datasets import DatasetDict

    from processing.object_proposals import ProposalOptions
    from processing.rows.loading_report import LoadingReport


# What the rooms define is said here again, since importing a room takes seconds, which `--help` must not.
# tests/scripts/options/test_data_options.py holds these against the rooms.
DATASETS = ("demo", "demo_pictures", "demo_context", "demo_re", "twitter2015", "twitter2017", "mnre")
TAG_SCHEMES = ("IOB2", "IOB1", "BIOES", "BILOU", "BMES", "BMEWO", "IO")
TASKS = ("ner", "re")
PROTOCOLS = ("word", "published")
ANNOTATION_TOOLS = ("label_studio", "doccano")

MAX_MEGAPIXELS = 25.0

ALL = sys.maxsize  # So many crops does no picture have.


@dataclass
class DataSourceArguments:
    """Options of the data set."""

    dataset: str = option(
        f"The data set: {', '.join(DATASETS)}, or your own: a file or a folder of JSON lines, CSV, "
        "CoNLL or Parquet, what an annotation tool exports, a folder of the datasets library, or a name on the Hub.",
        "demo",
    )
    data_dir: str | None = option("The folder of the Twitter or MNRE archive, for the data sets of that name.")
    image_dir: str | None = option(
        "The folder of the pictures of your own data. By default it is that of the data's file."
    )
    tag_scheme: str | None = option(
        "The scheme of the tags in your own data. By default it is found out from the tags.", choices=TAG_SCHEMES
    )
    strict: bool = option("Stop at the first row of your own data that cannot be used.", False)
    cache_dir: str | None = option("The folder in which prepared data are kept.")
    task: str | None = option(
        "With re, your own data with entities and relations are read for the relations, else for the entities.",
        choices=TASKS,
    )

    def load(
        self,
        num_aux_crops: int = ALL,
        num_rcnn_crops: int = ALL,
        word_splitter: str = "unicode",
        verify_pictures: bool = False,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> "tuple[DatasetDict, LoadingReport]":
        """
        The data set with its pictures encoded, and the report of its loading for the command to print. The words of
        its texts are those of a model with that `word_splitter`.

        Raises:
            ValueError, OSError: as `load_data`.
        """
        from processing.data import load_data

        options = {option.name: getattr(self, option.name) for option in fields(DataSourceArguments)}
        options |= {"num_aux_crops": num_aux_crops, "num_rcnn_crops": num_rcnn_crops, "word_splitter": word_splitter}
        options |= {"verify_pictures": verify_pictures, "max_megapixels": max_megapixels}
        return load_data(options.pop("dataset"), **options)

    def load_once(self, **options: Any) -> "DatasetDict":
        """
        The data set, in each of the processes. The first one prepares it with these options of
        `load`, and prints the report of its loading.

        Raises:
            ValueError, OSError: as `load_data`.
        """
        from processing.jobs.processes import process_state

        state = process_state()
        with state.main_process_first():  # The others find in the cache what the first one prepared.
            data, report = self.load(**options)
        if report and state.is_main_process:
            print(report, file=sys.stderr)
        return data


@dataclass
class PictureArguments:
    """Options of the pictures."""

    max_megapixels: float = option(
        "The largest picture in millions of pixels. Of a JPEG, which is then decoded smaller, it is four times that.",
        MAX_MEGAPIXELS,
    )


@dataclass
class DetectionArguments:
    """Options of the detectors that find crops."""

    aux_detector: str | None = option(
        "The zero-shot detector that finds aux crops by phrases: a name on the Hub or a folder. Without "
        "it, no aux crops are looked for."
    )
    rcnn_detector: str | None = option(
        "The detector of a closed set of labels that finds rcnn crops: a name on the Hub or a folder. "
        "Without it, no rcnn crops are looked for."
    )
    phrases: list[str] | None = option("The phrases that the zero-shot detector looks for in every picture.")
    spacy_model: str = option(
        "The spaCy model that finds the noun phrases of each text, which the zero-shot detector looks "
        "for. By default it is an installed English one. Without one, or with 'none', the detector looks for what "
        "the labels name.",
        "",
    )
    aux_threshold: float = option("An object gives an aux crop only if its score is above this number.", 0.3)
    rcnn_threshold: float = option("An object gives an rcnn crop only if its score is above this number.", 0.5)
    iou_threshold: float = option(
        "Of two boxes whose intersection over union is above this number, only the one with the higher score stays.",
        0.5,
    )
    max_aux_crops: int = option("The largest number of aux crops for a picture.", 3)
    max_rcnn_crops: int = option("The largest number of rcnn crops for a picture.", 3)

    def proposal_options(self) -> "ProposalOptions":
        """
        These options as the rooms take them.

        Raises:
            ValueError: for an option out of range.
        """
        from processing.object_proposals import ProposalOptions

        values = {option.name: getattr(self, option.name) for option in fields(DetectionArguments)}
        return ProposalOptions(**{**values, "spacy_model": self.spacy_model or None})
