"""Pictures of a diagnosis show its numbers."""

import json

import numpy as np
import pytest

from gpmjax.reports.plots import folder
from gpmjax.reports.plots.energy import cyclic_energy
from gpmjax.reports.plots.spectrum import spectrum
from gpmjax.reports.plots.subspaces import subspaces


def block(number, **figures):
    return {
        "block": number, "largest": 0.25 * number, "flips": 0.1, "accuracy": 0.6, "accuracy_interval": [0.5, 0.7],
    } | figures  # fmt: skip


def gate_block(number):
    return {"block": number, "mean": 0.5 * number, "quantiles": [0.1, 0.2, 0.3 * number, 0.8, 0.9]}


def energies(cyclic=0.125, groups=4):
    histogram = {"edges": [0.0, 0.5, 1.0], "counts": [3, 1]}
    return {"groups": groups, "cyclic": {"value": cyclic}, "by_chance": 1 / 3, "histogram": histogram}


@pytest.fixture
def diagnosis():
    table = [
        {"block": b, "aspect": aspect, "spearman": 0.5 * b - 0.5, "p_family": 0.01 if b == 2 else 0.6}
        for b in (1, 2) for aspect in ("wit", "depth")
    ]  # fmt: skip
    return {
        "triads": {"triads": 12, "cyclic": 3},
        "energy": energies(),
        "gate": {"prompts": 9, "effective_blocks": {"mean": 1.5}, "blocks": [gate_block(1), gate_block(2)]},
        "blocks": {"pairs": 40, "labelled": 20, "accuracy": 0.75, "blocks": [block(1), block(2)]},
        "aspects": {"aspects": ["wit", "depth"], "pairs": 40, "tests": 4, "table": table},
        "edges": {"wit": {"accuracy": 0.9, "blocks": [1.0, 0.25]}},
    }


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_spectrum_draws_quantiles_shares_and_accuracies(diagnosis):
    gate, decisions, accuracies = spectrum(diagnosis, title="t").axes
    medians = [
        line.get_ydata()[0] for line in gate.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2
    ]
    assert 0.3 in medians and 0.6 in medians and "1.50 effective blocks" in gate.get_title(loc="left")
    assert [bar.get_height() for bar in decisions.patches] == [0.25, 0.5, 0.1, 0.1]
    assert "40 pairs" in decisions.get_title(loc="left")
    heights = [tuple(line.get_ydata()) for line in accuracies.lines]
    assert heights.count((0.5, 0.7)) == 2 and (0.75, 0.75) in heights


def test_spectrum_draws_the_parts_that_are_there(diagnosis):
    assert len(spectrum(diagnosis | {"gate": None}).axes) == 2
    unlabelled = diagnosis["blocks"] | {"labelled": 0, "accuracy": None, "blocks": [block(1, accuracy=None)]}
    assert len(spectrum({"blocks": unlabelled}).axes) == 1
    with pytest.raises(ValueError, match="neither 'gate' nor 'blocks'"):
        spectrum({"gate": None})


def test_many_blocks_stand_one_below_the_other(diagnosis):
    many = diagnosis["gate"] | {"blocks": [gate_block(n + 1) for n in range(16)]}
    blocks = diagnosis["blocks"] | {"blocks": [block(n + 1) for n in range(16)]}
    wide, tall = spectrum({"gate": many, "blocks": blocks}).get_size_inches()
    assert tall > wide


def test_energy_draws_a_histogram_per_diagnosis(diagnosis):
    figure = cyclic_energy({"gpm": diagnosis, "bt": diagnosis, "pairs": diagnosis | {"energy": energies(groups=0)}})
    assert len(figure.axes) == 2
    (steps,) = figure.axes[0].patches
    assert steps.get_data().values.tolist() == [3, 1]
    assert [float(line.get_xdata()[0]) for line in figure.axes[0].lines] == [0.125, 1 / 3]
    assert figure.axes[0].get_title(loc="left") == "gpm: 3 of 12 triads cyclic"
    with pytest.raises(ValueError, match="hold no complete group"):
        cyclic_energy({"pairs": diagnosis | {"energy": energies(groups=0)}})


def test_subspaces_mark_significant_correlations(diagnosis):
    correlations, edges = subspaces(diagnosis).axes
    assert texts(correlations) == ["0.00", "0.50*", "0.00", "0.50*"]
    assert texts(edges) == ["100 %", "25 %"]
    np.testing.assert_array_equal(correlations.images[0].get_array(), [[0, 0.5], [0, 0.5]])
    diagnosis["aspects"]["table"][0]["spearman"] = None
    assert texts(subspaces(diagnosis | {"edges": None}).axes[0])[0] == "nan"
    with pytest.raises(ValueError, match="neither 'aspects' nor 'edges'"):
        subspaces({})


def test_a_folder_with_a_diagnosis_is_drawn(diagnosis, tmp_path):
    for run in ("bt", "gpm"):
        (tmp_path / run).mkdir()
        plain = {"gate": None, "blocks": None, "aspects": None, "edges": None}
        found = diagnosis if run == "gpm" else diagnosis | plain
        (tmp_path / run / "diagnosis.json").write_text(json.dumps({"diagnosis": found}))
        (tmp_path / run / "config.json").write_text(json.dumps({"gate": "softmax"}))
    assert {path.name for path in folder.draw_run(tmp_path / "bt")} == {"cyclic_energy.png"}
    names = {path.name for path in folder.draw_folders([tmp_path / "bt", tmp_path / "gpm"], tmp_path / "out")}
    assert names == {"cyclic_energy.png", "spectrum_gpm_diagnosis.png", "subspaces_gpm_diagnosis.png"}
