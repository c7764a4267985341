"""The drawn curves of growth: their titles and what their axes say. test_benchmark.py measures them."""

from ifaformer_commands.benchmarks import growth


def drawn(monkeypatch, folder, numbers):
    """matplotlib's figure of a curve at these numbers, before it becomes a PNG."""
    figures = []
    monkeypatch.setattr(growth, "png", lambda figure: figures.append(figure) or b"")
    times = [{"median": 0.01 * (number + 1), "lowest": 0.01, "highest": 20_000.0} for number in numbers]
    curve = {"name": "tokens a text", "x": numbers, "seconds": times, "memory_mb": [*numbers]}
    growth.draw_curves({"text_length": curve}, folder)
    return figures[0]


def test_titles_and_plain_numbers(monkeypatch, tmp_path):
    figure = drawn(monkeypatch, tmp_path, [1, 1000, 1_000_000])
    assert figure.get_suptitle() == "Text length"
    times, memory = figure.axes
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Seconds (dashed: in proportion)", "Peak memory in MB, beyond the start"]
    assert memory.get_xlabel() == "tokens a text" and times.get_xscale() == times.get_yscale() == "log"
    figure.draw_without_rendering()
    assert [label.get_text() for label in memory.get_xticklabels()] == ["1", "1,000", "1,000,000"]
    labels = {label.get_text() for label in times.get_yticklabels()}
    assert labels & {"1,000", "10,000"} and not any("e" in label or "$" in label for label in labels)


def test_a_curve_from_nothing_on_has_a_plain_scale(monkeypatch, tmp_path):
    times, _ = drawn(monkeypatch, tmp_path, [0, 1, 2]).axes
    assert times.get_xscale() == times.get_yscale() == "linear"
