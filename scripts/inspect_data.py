"""
Show a data set: its counts, and a page of samples with pictures, crops, boxes and highlighted entities.

    python scripts/inspect_data.py --dataset demo --output demo.html
    python scripts/inspect_data.py --dataset tweets/ --split train --num_samples 50 --output tweets.html

The page is one HTML file that stands alone. Its samples are chosen at random; the same --seed chooses the same ones.
"""

from dataclasses import dataclass

from ifaformer_commands.options.command_line import option, output_path, parse_arguments, user_errors
from ifaformer_commands.options.data_options import DataSourceArguments, PictureArguments


@dataclass
class InspectionArguments(PictureArguments, DataSourceArguments):
    """Options of what is shown."""

    output: str | None = option("The HTML file for the page. Without it, the counts are printed and no more.")
    json: str | None = option("A JSON file for the counts.")
    split: str | None = option("Samples are chosen from this split. By default, they are chosen from all.")
    num_samples: int = option("The number of samples on the page.", 24)
    ids: list[str] | None = option("The page shows the rows with these ids, instead of rows chosen at random.")
    seed: int = option("The same seed chooses the same samples again.", 0)


def main() -> None:
    arguments, _ = parse_arguments(InspectionArguments, description=__doc__)
    output, json_output = output_path(arguments.output), output_path(arguments.json)

    from processing.inspection.sample_page import choose_rows, sample_page
    from processing.inspection.statistics import split_statistics, statistics_table, text_table
    from processing.jobs.atomic_files import write_json, write_text

    with user_errors():
        limit = arguments.max_megapixels
        data, report = arguments.load(verify_pictures=True, max_megapixels=limit)
        rows = choose_rows(data, arguments.split, arguments.num_samples, arguments.ids or (), arguments.seed)
        if report:
            print(report)
        statistics = {split: split_statistics(of_split) for split, of_split in data.items()}
        header, lines = statistics_table(statistics)
        print(text_table([header, *lines]))
        if json_output:
            write_json(statistics, json_output)
        if output:
            told = {"name": arguments.dataset, "report": report.published()}
            page = sample_page(data, rows, statistics, max_megapixels=limit, **told)
            write_text(page, output)
            print(f"Written: {output}")


if __name__ == "__main__":
    main()
