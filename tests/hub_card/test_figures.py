import io
import math

import matplotlib
import pytest
from PIL import Image

from hub_card import figures
from hub_card.figures import DPI, FONT, confusion_matrix, f1_by_epoch, loss_by_step, short, training_curve
from processing.rendering import CROP_COLOURS


LOG = [
    {"step": 5, "epoch": 0.5, "loss": 4.0, "grad_norm": 1.0},
    {"step": 10, "epoch": 1.0, "loss": 2.0},
    {"step": 10, "epoch": 1.0, "eval_f1": 0.5, "eval_loss": 3.0},
    {"step": 20, "epoch": 2.0, "loss": math.nan},
    {"step": 20, "epoch": 2.0, "eval_f1": 0.75, "eval_loss": 2.0},
    {"step": 20, "epoch": 2.0, "train_runtime": 9.0, "train_loss": 3.0},
]


@pytest.fixture
def drawn(monkeypatch):
    """`drawn(function, ...)` -> matplotlib's figure, before it becomes a PNG."""

    def draw(function, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(figures, "png", lambda figure: figure)
            return function(*arguments)

    return draw


def points(line):
    return [tuple(point) for point in line.get_xydata()]


def test_what_a_log_holds():
    assert loss_by_step(LOG) == [(5, 4.0), (10, 2.0)]
    assert f1_by_epoch(LOG) == [(1.0, 0.5), (2.0, 0.75)]


def test_curve(drawn):
    losses, scores = drawn(training_curve, LOG).axes
    (line,) = losses.lines
    assert points(line) == [(5, 4.0), (10, 2.0)] and losses.get_title(loc="left") == "Training loss"
    (line,) = scores.lines
    assert points(line) == [(1.0, 50.0), (2.0, 75.0)] and scores.get_xlabel() == "epoch"
    for log, title in ((LOG[:2], "Training loss"), (LOG[2:3] + LOG[4:], "Validation F1 in percent")):
        (axes,) = drawn(training_curve, log).axes
        assert axes.get_title(loc="left") == title
    with pytest.raises(ValueError, match="neither a loss nor an eval_f1"):
        training_curve(LOG[-1:])


def test_kept_epoch_is_marked(drawn):
    for epoch, f1 in ((1.0, 50.0), (2.0, 75.0)):
        scores = drawn(training_curve, LOG, epoch).axes[1]
        assert points(scores.lines[1]) == [(epoch, f1)] and scores.get_title(loc="right").endswith(f"kept: {f1}")
    assert len(drawn(training_curve, LOG, 3.0).axes[1].lines) == 1


@pytest.mark.parametrize(
    ("scores", "lowest", "highest"),
    [((0.985, 0.995), 95, 100), ((0.02, 0.03), 0, 5), ((0.4, 0.9), 40, 90), ((0.7, 0.7), 67.5, 72.5)],
)
def test_the_axes_of_scores_fit_them(drawn, scores, lowest, highest):
    """From the first epoch that has a score on; a change of a point is no leap."""
    log = [{"step": epoch, "epoch": epoch, "eval_f1": f1} for epoch, f1 in zip((5.0, 6.0), scores, strict=True)]
    (axes,) = drawn(training_curve, log).axes
    left, right = axes.get_xlim()
    assert 4.5 < left < 5 and 6 < right < 6.5
    bottom, top = axes.get_ylim()
    assert bottom <= lowest <= 100 * min(scores) and 100 * max(scores) <= highest <= top
    assert 5 <= top - bottom < 1.3 * (highest - lowest)


def test_colours_are_those_of_the_pages():
    assert {figures.BLUE, figures.ORANGE} == set(CROP_COLOURS.values())


def test_losses_that_fall_far_are_drawn_on_a_log_scale(drawn):
    log = [{"step": step, "epoch": step / 100, "loss": 50 / step + 0.01} for step in range(1, 3000)]
    (axes,) = drawn(training_curve, log).axes
    assert axes.get_yscale() == "log" and axes.get_title(loc="left") == "Training loss (log scale)"
    (axes,) = drawn(training_curve, [{"step": 1, "loss": 900.0}, {"step": 2000, "loss": 0.05}]).axes
    labels = {axis: [label.get_text() for label in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis)}
    assert {"0.1", "1", "10", "100"} <= {*labels[axes.yaxis]} and "2,000" in labels[axes.xaxis]


def matrix(figure):
    """By (row, column) as they are labelled: what is written, and how dark the cell is, from 0 to 1."""
    (axes,) = figure.axes
    rows = [label.get_text() for label in axes.get_yticklabels()]
    columns = [label.get_text() for label in axes.get_xticklabels()]
    shades = axes.images[0].get_array()
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    return {
        (row, column): (texts[x, y], shades[y, x]) for y, row in enumerate(rows) for x, column in enumerate(columns)
    }


def test_matrix_rows_are_gold_and_columns_predicted(drawn):
    figure = drawn(confusion_matrix, ["PER", "LOC"], [[1500, 300, 200], [0, 10, 0], [500, 20, 0]])
    cells = matrix(figure)
    assert cells["PER", "PER"] == ("1,500", 0.75) and cells["PER", "LOC"] == ("300", 0.15)
    assert cells["PER", "missed"] == ("200", 0.1) and cells["LOC", "PER"] == ("0", 0)
    assert cells["spurious", "PER"] == ("500", 0.25), "its share of the gold ones of its type"
    assert cells["spurious", "LOC"] == ("20", 1), "at most all of them"
    assert cells["spurious", "missed"] == ("", 0)
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("predicted", "gold")


def test_a_negative_relation_has_its_row_and_column(drawn):
    """What is rightly none is a cell like the others, shaded by the share of its own row."""
    cells = matrix(drawn(confusion_matrix, ["/per/per/peer"], [[8, 2], [30, 90]], "None"))
    assert cells["None", "None"] == ("90", 0.75) and cells["None", "/per/per/peer"] == ("30", 0.25)
    assert cells["/per/per/peer", "None"] == ("2", 0.2)
    assert matrix(drawn(confusion_matrix, [], [[7]], "None")) == {("None", "None"): ("7", 1)}


def test_names_are_text_and_not_mathematics(drawn):
    figure = drawn(confusion_matrix, ["$\\frac$", "a_b"], [[1] * 3] * 3)
    assert (r"\$\frac\$", "a_b") in matrix(figure)
    assert Image.open(io.BytesIO(confusion_matrix(["$\\frac$"], [[1, 0], [0, 0]]))).format == "PNG"


@pytest.mark.parametrize("size", [1, 4, 8])
def test_matrix_is_readable_at_400_pixels(size):
    types = ["musicartist", "company", "a_b", *"defgh"][:size]
    png = confusion_matrix(types, [[1234] * (size + 1)] * (size + 1))
    assert FONT * DPI / 72 * 400 / Image.open(io.BytesIO(png)).width > 8  # pixels of an em


def test_counts_without_gold(drawn):
    cells = matrix(drawn(confusion_matrix, ["PER", "LOC"], [[0, 0, 0], [0, 0, 0], [3, 0, 0]]))
    assert cells["spurious", "PER"] == ("3", 1) and cells["spurious", "LOC"] == ("0", 0)


@pytest.mark.parametrize(
    ("types", "counts"),
    [([], [[0]]), (["PER"], [[1]]), (["PER"], [[1, 0], [0]]), (["PER", "LOC"], [[1, 0], [0, 1]])],
)
def test_shape_of_counts(types, counts):
    with pytest.raises(ValueError, match=f"of {len(types)} types have {len(types) + 1} rows and columns"):
        confusion_matrix(types, counts)


def test_no_global_state():
    before = dict(matplotlib.rcParams)
    training_curve(LOG, 2.0)
    confusion_matrix(["PER"], [[1, 2], [3, 0]])
    assert dict(matplotlib.rcParams) == before


def test_a_matrix_does_not_grow_with_the_length_of_a_name():
    assert short("a" * 10**6) == "a" * 39 + "…" and short("\u202ex\n", 40) == r"\u202ex\n"
    counts = [[1, 0], [0, 0]]
    assert Image.open(io.BytesIO(confusion_matrix(["a" * 10**5], counts))).width < 2000
