"""
Score trained checkpoints on a split: precision, recall and F1 of each entity type or relation.

    python scripts/score.py --checkpoints runs/demo runs/demo_text_only --shuffle_pictures
    python scripts/score.py --checkpoints runs/twitter2017 --dataset twitter2017 --data_dir DIR --protocol both

The protocol `word` scores every word, so that an entity that was cut off counts as missed. The protocol `published` is
that of the published code, which removes such an entity from the gold answers and from the predictions. Relations are
scored in one way, that of the published code: accuracy over all rows; precision, recall and F1 over all relations but
the negative one.
"""

from collections import Counter
from dataclasses import dataclass

from ifaformer_commands.options.command_line import option, output_path, parse_arguments, user_errors
from ifaformer_commands.options.data_options import PROTOCOLS, TASKS, DataSourceArguments


@dataclass
class ScoringArguments(DataSourceArguments):
    """Options of scoring."""

    checkpoints: list[str] = option("The trained models: folders, or names on the Hub.", [])
    task: str | None = option("The task that the checkpoints must be for. By default any is taken.", choices=TASKS)
    split: str = option("The split that is scored.", "test", choices=("train", "validation", "test"))
    protocol: str = option("How entities are scored, see above.", "word", choices=(*PROTOCOLS, "both"))
    shuffle_pictures: bool = option(
        "Score once more with the pictures shuffled between the rows. What is lost by this shows how much a model "
        "looks at them.",
        False,
    )
    without_context: bool = option("Score models that read contexts once more, with the contexts left out.", False)
    with_thresholds: bool = option(
        "Score taggers once more, without the entities whose score is below the threshold that training chose for "
        "their type.",
        False,
    )
    seed: int = option("The seed of the shuffling, and of the resamples by which two results are compared.", 0)
    batch_size: int = option("How many rows make a batch, on each device.", 64)
    output: str | None = option("A JSON file to which the results are written.")
    errors: str | None = option(
        "A page of HTML to write about the errors, which are also printed: their kinds, by type, length, capitals and "
        "words that are unseen in training, or by relation and distance; and examples."
    )
    demo_page: str | None = option(
        "A page of HTML to write about a model of the demo data: one sentence with four pictures, and the scores."
    )


def main() -> None:
    arguments, _ = parse_arguments(
        ScoringArguments, description=__doc__, first=["checkpoints", "dataset", "data_dir", "split", "protocol"]
    )
    if not arguments.checkpoints:
        raise SystemExit("Name the checkpoints, for example --checkpoints runs/demo.")
    twice = [name for name, number in Counter(arguments.checkpoints).items() if number > 1]
    if twice:
        raise SystemExit(f"--checkpoints names {', '.join(twice)} more than once. Name each checkpoint once.")
    if arguments.demo_page and (arguments.dataset, arguments.split, arguments.protocol) != ("demo", "test", "word"):
        raise SystemExit(
            "--demo_page works only with --dataset demo --split test --protocol word, got --dataset "
            f"{arguments.dataset} --split {arguments.split} --protocol {arguments.protocol}. Leave --demo_page out."
        )
    output, demo_page_path, errors_path = map(output_path, (arguments.output, arguments.demo_page, arguments.errors))

    from modeling_ifaformer.checkpoints.trained import load_checkpoint, task_of
    from modeling_ifaformer.training.scoring import LEFT_OUT, SHUFFLED, WITH_THRESHOLDS, score_checkpoints
    from processing.data.tasks import check_task, choose_split
    from processing.jobs.atomic_files import write_json, write_text
    from processing.scoring.results_table import differences_table, out_of_reach, results_table

    with user_errors():
        checkpoints = {name: load_checkpoint(name, arguments.task) for name in arguments.checkpoints}
        processors = [processor for _, processor in checkpoints.values()]
        arguments.task = task_of(processors[0])
        data, report = arguments.load(
            *(max(getattr(processor, f"num_{kind}_crops") for processor in processors) for kind in ("aux", "rcnn")),
            processors[0].word_splitter,
        )
        if report:
            print(report)
        check_task(data, arguments.dataset, arguments.task)
        rows = choose_split(data, arguments.split)
        results = score_checkpoints(
            checkpoints,
            rows,
            protocols=PROTOCOLS if arguments.protocol == "both" else (arguments.protocol,),
            shuffle_seed=arguments.seed if arguments.shuffle_pictures else None,
            without_context=arguments.without_context,
            with_thresholds=arguments.with_thresholds,
            batch_size=arguments.batch_size,
            cache_dir=arguments.cache_dir,
        )
    print(results_table(results))
    for name, result in results.items():
        print(f"{name}: {out_of_reach(result)}.")
    asked = {
        SHUFFLED: (arguments.shuffle_pictures, "it looks at no pictures"),
        LEFT_OUT: (arguments.without_context, "it reads no contexts, or the rows have none"),
        WITH_THRESHOLDS: (
            arguments.with_thresholds,
            "it has none; training chooses those that raise F1 on validation",
        ),
    }
    for name in checkpoints:
        for way, (is_asked, reason) in asked.items():
            if is_asked and name + way not in results.answers:
                print(f"There is no score of {name}{way}: {reason}.")
    differences = results.differences(seed=arguments.seed)
    if differences:
        print(f"\n{differences_table(differences)}")
        for name, difference in differences.items():
            results[name]["difference"] = difference
    if errors_path:
        from processing.inspection.error_page import error_page
        from processing.scoring.error_report import errors_text

        analyses = results.errors(data.get("train"))
        for name, analysis in analyses.items():
            print(f"\n{errors_text(name, analysis, rows)}")
        with user_errors():
            write_text(error_page(analyses, rows, name=arguments.dataset, split=arguments.split), errors_path)
        print(f"\nThe errors as a page, for the browser:\n{arguments.errors}")
    if output:
        with user_errors():
            write_json(results, output)
    if demo_page_path:
        from modeling_ifaformer.prediction.demo_page import demo_page

        with user_errors():
            write_text(demo_page(checkpoints, results), demo_page_path)
        print(f"The demo in one page, for the browser:\n{arguments.demo_page}")


if __name__ == "__main__":
    main()
