"""The picture of the cost of K responses: a line per model on both panels, straight where the cost is a power of K."""

from gpmjax.reports.plots.scoring import scoring_cost


def line(power):
    counts = [2, 4, 8]
    seconds = [{"min": 0.9 * k**power, "median": 1.0 * k**power, "max": 1.2 * k**power} for k in counts]
    return {"K": counts, "seconds": seconds, "forward_tokens": [10 * k**power for k in counts]}


def test_both_panels_have_every_model_on_logarithmic_axes():
    figure = scoring_cost({"models": {"GPM": line(1), "BT": line(1), "PairPM": line(2)}})
    time, tokens = figure.axes
    for panel in (time, tokens):
        assert [drawn.get_label() for drawn in panel.get_lines()] == ["GPM", "BT", "PairPM"]
        assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
    assert time.get_lines()[2].get_ydata().tolist() == [4, 16, 64]
    assert [text.get_text() for text in tokens.get_legend().get_texts()] == ["GPM", "BT", "PairPM"]
