"""
Look at a data set: counts, and a page of samples with pictures, crops, boxes and highlighted entities.

    python scripts/inspect_data.py --dataset demo --output demo.html
    python scripts/inspect_data.py --dataset tweets/ --split train --num_samples 50 --output tweets.html

The page is one HTML file that stands alone. Samples are drawn at random, the same ones for the same --seed.
"""

import html
import json
from dataclasses import dataclass, field

from ifaformer_commands.command_line import output_path, parse_arguments
from ifaformer_commands.data_options import DataSourceArguments
from processing.inspection.contact_sheet import NAMES
from processing.inspection.sample_page import choose_rows, sample, statistics_table
from processing.inspection.statistics import split_statistics
from processing.rendering import CROP_COLOURS, page, table
from processing.rows.row_features import CROP_KINDS


@dataclass
class InspectionArguments(DataSourceArguments):
    split: str | None = field(default=None, metadata={"help": "samples of this split only; default: of all"})
    num_samples: int = field(default=24, metadata={"help": "samples on the page"})
    ids: list[str] | None = field(default=None, metadata={"help": "show the rows with these ids instead"})
    seed: int = field(default=0, metadata={"help": "of the draw"})
    output: str | None = field(default=None, metadata={"help": "HTML file for the page; left out, none is drawn"})
    json: str | None = field(default=None, metadata={"help": "JSON file for the counts"})


def main() -> None:
    arguments, _ = parse_arguments(InspectionArguments, description=__doc__)
    if arguments.num_samples < 0:
        raise SystemExit(f"--num_samples must be 0 or more, got {arguments.num_samples}.")
    output, json_output = output_path(arguments.output), output_path(arguments.json)
    data, report = arguments.load()
    if report:
        print(report)
    statistics = {split: split_statistics(rows) for split, rows in data.items()}
    header, lines = statistics_table(statistics)
    widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]
    for first, *others in [header, *lines]:
        numbers = (number.rjust(width) for number, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *numbers]))
    if json_output:
        json_output.write_text(json.dumps(statistics, indent=2) + "\n", encoding="utf-8")
    if output:
        legend = ""
        if any(f"{kind}_objects" in data[next(iter(data))].features for kind in CROP_KINDS):
            keys = (
                f'<span style="color:{CROP_COLOURS[kind]}">{html.escape(NAMES[kind])}</span>' for kind in CROP_KINDS
            )
            legend = f"<p>Boxes: {', '.join(keys)}</p>"
        body = "".join(sample(split, row, data[split]) for split, row in choose_rows(data, arguments))
        findings = "".join(f"<p class='note'>{html.escape(line)}</p>" for line in str(report).splitlines())
        content = f"{table(header, lines)}{findings}<h2>Samples</h2>{legend}{body}"
        output.write_text(page(f"Data set {arguments.dataset}", content), encoding="utf-8")
        print(f"Written: {output}")


if __name__ == "__main__":
    main()
