"""A table as Markdown and as a figure."""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from modeling_ifaformer.comparison import table_report
from modeling_ifaformer.comparison.table_file import Table
from modeling_ifaformer.comparison.table_report import table_figure, table_markdown


def spread(mean, std=None):
    return {metric: {"mean": mean, "std": std, "values": [mean]} for metric in ("precision", "recall", "f1")}


SAID = {"sees": "whole | picture", "note": "", "source": "", "published": {}, "seeds": [1, 2]}
FIGURES = {"parameters": 2_500_000, "trained_parameters": 1_500_000, "seconds": 61.4}
ROWS = [
    {
        **SAID,
        **FIGURES,
        "key": "umt",
        "name": "UMT",
        "note": "On a grid.",
        "source": "Yu et al., 2020",
        "published": {"precision": 85.28, "recall": 85.34, "f1": 85.31},
        "word": spread(0.84, 0.011),
        "published_protocol": spread(0.8451, 0.012),
        "word_shuffled": spread(0.6, 0.02),
    },
    {**SAID, **FIGURES, "key": "bert", "name": "BERT-CRF", "word": spread(0.8), "published_protocol": spread(0.81)},
    {**SAID, "key": "mtb", "name": "MTB", "not_run": "It needs MTB weights."},
]
DATA = {"test": {"rows": 1234, "digest": "abcd"}}


def test_nothing_of_the_figure_is_cut_off(monkeypatch):
    figures = []
    monkeypatch.setattr(table_report, "png", lambda figure: figures.append(figure) or b"")
    for name in ("UMT", "AdapCoAtt-BERT-CRF, corrected"):
        table_report.table_figure([{**ROWS[0], "name": name}])
    for figure in figures:
        FigureCanvasAgg(figure).draw()
        texts = [text for text in figure.findobj(Text) if text.get_text()]
        # Ticks beyond the axes are not drawn.
        texts = [text for text in texts if text not in figure.axes[0].get_xticklabels()]
        assert any("both by the protocol word" in text.get_text() for text in texts)
        edges = [text.get_window_extent() for text in texts]
        assert all(edge.x0 >= 0 and edge.x1 <= figure.bbox.x1 and edge.y0 >= 0 for edge in edges)


def test_every_figure_stands_in_its_column():
    page = table_markdown(Table("Systems", "It ranks nothing.", {}, []), ROWS, DATA)
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line[:1] == "|"]
    header, _, umt, bert = lines
    assert dict(zip(header, umt, strict=True)) == {
        "system": "UMT",
        "sees of a picture": r"whole \| picture",
        "parameters, trained of all": "1.50 of 2.50 M",
        "P": "84.00 ± 1.10",
        "R": "84.00 ± 1.10",
        "F1": "84.00 ± 1.10",
        "F1, published protocol": "84.51 ± 1.20",
        "F1, pictures shuffled": "60.00 ± 2.00",
        "published F1": "85.31",
        "difference": "-0.80",
        "seconds": "61",
    }
    assert bert[5:10] == ["80.00", "81.00", "", "", ""]
    for told in (
        "# Systems",
        "It ranks nothing.",
        "- UMT: On a grid.",
        "- UMT: P 85.28, R 85.34, F1 85.31; Yu et al., 2020",
        "- MTB: It needs MTB weights.",
        "Seeds: 1, 2.",
        "test 1,234 rows (abcd)",
    ):
        assert told in page


def test_the_figure_grows_with_the_rows_that_were_run():
    heights = [Image.open(io.BytesIO(table_figure(rows))).height for rows in (ROWS, ROWS[:1], ROWS[:2])]
    assert heights[0] == heights[2] > heights[1]
