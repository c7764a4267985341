import io
import math
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image

from hub_card.figures import DPI, FONT, Confusion, confusion_matrix, f1_by_epoch, loss_by_step, training_curve


LOG = [
    {"step": 5, "epoch": 0.5, "loss": 4.0, "grad_norm": 1.0},
    {"step": 10, "epoch": 1.0, "loss": 2.0},
    {"step": 10, "epoch": 1.0, "eval_f1": 0.5, "eval_loss": 3.0},
    {"step": 20, "epoch": 2.0, "loss": math.nan},
    {"step": 20, "epoch": 2.0, "eval_f1": 0.75, "eval_loss": 2.0},
    {"step": 20, "epoch": 2.0, "train_runtime": 9.0, "train_loss": 3.0},
]


def pixels(png):
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB")).astype(int)


def blue(png):
    """Where a picture is blue, and below where it is orange: (rows, columns)."""
    values = pixels(png)
    return np.nonzero(values[..., 2] - values[..., 0] > 30)


def orange(png):
    values = pixels(png)
    return np.nonzero(values[..., 0] - values[..., 2] > 12)


def test_what_a_log_holds():
    assert loss_by_step(LOG) == [(5, 4.0), (10, 2.0)]
    assert f1_by_epoch(LOG) == [(1.0, 0.5), (2.0, 0.75)]


def test_curve():
    both, losses, scores = (training_curve(log) for log in (LOG, LOG[:2], LOG[2:3] + LOG[4:]))
    assert pixels(both).shape[:2] == (1000, 1280)
    assert pixels(losses).shape[0] == pixels(scores).shape[0] < 600
    for png in (both, losses, scores):
        assert len(blue(png)[0]) > 1000 and len(orange(png)[0]) == 0
    with pytest.raises(ValueError, match="neither a loss nor an eval_f1"):
        training_curve(LOG[-1:])


def test_curve_shows_the_values():
    assert training_curve(LOG) == training_curve(LOG)
    other = [{**entry, "eval_f1": 0.7} if entry.get("eval_f1") == 0.75 else entry for entry in LOG]
    assert training_curve(other) != training_curve(LOG)
    falling = training_curve([{"step": step, "loss": 10.0 - step} for step in (1, 9)])
    rows, columns = blue(falling)
    assert rows[columns == columns.min() + 8].mean() < rows[columns == columns.max() - 8].mean() - 100


def test_kept_epoch_is_marked():
    first, last, none = (training_curve(LOG, epoch) for epoch in (1.0, 2.0, 3.0))
    assert len(orange(none)[0]) == 0
    for png in (first, last):
        assert orange(png)[0].min() > 450  # the panel of the scores
    assert orange(first)[1].min() < orange(last)[1].min()
    assert orange(first)[0].max() > orange(last)[0].max() + 50  # its score is lower


def test_many_steps():
    log = [{"step": step, "epoch": step / 100, "loss": 50 / step + 0.01} for step in range(1, 3000)]
    assert len(blue(training_curve(log))[0]) > 1000


def test_matrix_rows_are_gold_and_columns_predicted():
    def error_at(row, column):
        counts = np.diag([10, 10, 0])
        counts[row, column] += 9
        png = confusion_matrix(Confusion(["PER", "LOC"], counts.tolist()))
        right, wrong = blue(png), orange(png)
        return [wrong[axis].mean() - right[axis].mean() for axis in (0, 1)], png

    (down, across), png = error_at(0, 1)
    assert down < -50 and across > 50
    (down, across), _ = error_at(1, 0)
    assert down > 50 and across < -50
    (down, across), _ = error_at(0, 2)
    assert down < -50 and across > 200  # missed
    (down, across), _ = error_at(2, 0)
    assert down > 200 and across < -50  # spurious
    assert len(blue(png)[0]) > 20_000


def test_a_negative_relation_has_its_row_and_column():
    """What is rightly none is a cell like the others, shaded by the share of its own row."""
    types, counts = ["/per/per/peer", "/per/org/member_of"], [[10, 0, 0], [0, 10, 0], [0, 0, 10]]
    without, negative = (confusion_matrix(Confusion(types, counts, name)) for name in (None, "None"))
    assert len(blue(negative)[0]) > 1.3 * len(blue(without)[0]) and len(orange(negative)[0]) == 0
    counts[2] = [90, 0, 10]
    assert len(blue(confusion_matrix(Confusion(types, counts, "None")))[0]) < 0.8 * len(blue(negative)[0])
    assert len(blue(confusion_matrix(Confusion([], [[7]], "None")))[0]) > 1000


@pytest.mark.parametrize("size", [1, 4, 8])
def test_matrix_is_readable_at_400_pixels(size):
    types = ["musicartist", "$\\frac$", "a_b", *"defgh"][:size]
    png = confusion_matrix(Confusion(types, [[1234] * (size + 1)] * (size + 1)))
    width = pixels(png).shape[1]
    assert FONT * DPI / 72 * 400 / width > 8  # pixels of an em


def test_counts_without_gold():
    counts = [[0, 0, 0], [0, 0, 0], [3, 0, 0]]
    assert len(orange(confusion_matrix(Confusion(["PER", "LOC"], counts)))[0]) > 1000


@pytest.mark.parametrize(
    ("types", "counts"),
    [([], [[0]]), (["PER"], [[1]]), (["PER"], [[1, 0], [0]]), (["PER", "LOC"], [[1, 0], [0, 1]])],
)
def test_shape_of_counts(types, counts):
    with pytest.raises(ValueError, match=f"of {len(types)} types have {len(types) + 1} rows and columns"):
        Confusion(types, counts)


def test_no_global_state():
    before = dict(matplotlib.rcParams)
    training_curve(LOG, 2.0)
    confusion_matrix(Confusion(["PER"], [[1, 2], [3, 0]]))
    assert dict(matplotlib.rcParams) == before


def test_neither_pyplot_nor_torch():
    program = (
        "import sys\n"
        "from hub_card.figures import Confusion, confusion_matrix\n"
        "from hub_card.model_card import model_card\n"
        "from hub_card.model_facts import ModelFacts\n"
        "model_card(ModelFacts('x'))\n"
        "confusion_matrix(Confusion(['PER'], [[1, 2], [3, 0]]))\n"
        "print(sorted({'torch', 'transformers', 'matplotlib.pyplot', 'processing'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stdout + result.stderr
