"""A page of HTML about the errors of models: counts, confusions, and tweets for each kind of error."""

from collections.abc import Mapping

from datasets import Dataset

from processing.columns import CROP_COLUMNS
from processing.rendering import escaped
from processing.rows.local_paths import without_folders
from processing.scoring.error_analysis import ErrorAnalysis
from processing.scoring.error_report import answers_lines, by_protocol, confusion_lines, counts_lines, errors_of

from .html_page import page, table
from .sample_page import row_html


MAX_EXAMPLES = 6  # of each kind; with a picture each has some 20 kB


def error_page(analyses: Mapping[str, ErrorAnalysis], rows: Dataset, *, name: str, split: str) -> str:
    """
    The page, which stands alone, carries no script, and can be passed on. Pictures are shown as on [`sample_page`],
    without their crops.

    Args:
        analyses: of each model by its name; of a path the last part is shown.
        rows: those that were analysed, as `load_data` gives them.
        name, split: of the data set, likewise, and of the rows.
    """
    rows = rows.remove_columns([column for column in CROP_COLUMNS if column in rows.column_names])
    body = "<p>In the tweets the gold answers are marked. Precision (P), recall (R) and F1 are in percent"
    body += f"{by_protocol(rows)}.</p>"
    body += "".join(_of_model(model, analysis, rows, split) for model, analysis in analyses.items())
    return page(f"Errors on {without_folders(name)} ({split})", body)


def _of_model(model: str, analysis: ErrorAnalysis, rows: Dataset, split: str) -> str:
    parts = [f"<h2>{escaped(without_folders(model))}</h2>", table(*counts_lines(analysis))]
    header, confusions = confusion_lines(analysis)
    parts += ["<h3>The most frequent confusions</h3>", table(header, confusions)] if confusions else []
    for kind in analysis.kinds:
        shown = analysis.examples(kind, MAX_EXAMPLES)
        told = errors_of(kind, analysis, rows)
        told = f"{told[0].upper()}{told[1:]}." + (f" {len(shown)} of these tweets:" if shown else "")
        tweets = (row_html(split, rows, index, answers_lines(analysis, index, rows[index])) for index in shown)
        parts.append(
            f'<h3>{escaped(kind.capitalize())}</h3><p>{escaped(told)}</p><div class="tweets">{"".join(tweets)}</div>'
        )
    return "".join(parts)
