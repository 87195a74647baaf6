"""Pictures of folders: every file with numbers is drawn, and damaged files are named."""

import json

import numpy as np
import pytest

from gpmjax.reports.plots import folder, style

PNG = b"\x89PNG"


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def run(tmp_path):
    """A folder with every file that a demonstration writes."""
    run = tmp_path / "run"
    run.mkdir()
    train = [{"step": i, "loss": 1 / i, "accuracy": 0.5, "learning_rate": 1e-4} for i in range(1, 100)]
    write_lines(run / "metrics.jsonl", [*train, {"step": 99, "eval": {"dev": {"accuracy": 0.9, "nll": 0.3}}}])
    table = [{"model": m, "set": s, "accuracy": 0.7, "ceiling": 0.75, "seed": 0} for m in ("bt", "gpm") for s in "ab"]
    (run / "summary.json").write_text(json.dumps({"table": table}))
    line = {"low": 0.5, "high": 0.6, "count": 3, "confidence": 0.55, "frequency": 0.5}
    (run / "dev.json").write_text(json.dumps({"calibration": [line]}))
    v = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [-1.0, 0, 0, 0]])
    group = {"labels": list("ABC"), "embedding": v.tolist(), "scores": np.zeros((3, 3)).tolist(), "title": "letters"}
    (run / "preferences_letters.json").write_text(json.dumps(group))
    np.savez(run / "preferences_bt.npz", labels=["A", "B"], scores=[[0, 1], [-1, 0]])
    return run


def test_every_file_is_drawn_and_nothing_else(run, tmp_path):
    written = folder.draw_folders([run], tmp_path / "out")
    names = {"learning_curves", "accuracy", "calibration", "circle_letters", "scores_letters", "scores_bt"}
    assert {path.stem for path in written} == names
    assert {path.stem for path in (tmp_path / "out").iterdir()} == names
    assert all(path.read_bytes().startswith(PNG) for path in written)


def test_iterations_of_a_policy_are_drawn_with_a_judge_or_without(tmp_path):
    line = {"iteration": 1, "length": {"mean": 20.0}, "kl_base_k1": 0.1}
    rates = {"win_rate": 0.6, "standard_error": None}
    judged = line | {"iteration": 2, "entropy": 1.0, "judge": {"judge": rates, "trainer": rates}}
    for name, lines in (("plain", [line]), ("judged", [line, judged])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps({"iterations": lines}))
        (tmp_path / name / "config.json").write_text(json.dumps({"iterations": 2}))
        (written,) = folder.draw_run(tmp_path / name)
        assert written.name == "improvement.png" and written.read_bytes().startswith(PNG)


def test_groups_of_several_folders_do_not_overwrite_each_other(tmp_path):
    for run in ("bt", "gpm"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "preferences-0.json").write_text('{"labels": ["A"], "scores": [[0]]}')
    written = folder.draw_folders([tmp_path / "bt", tmp_path / "gpm"], tmp_path / "out")
    assert written == [tmp_path / "out" / run / "scores_0.png" for run in ("bt", "gpm")]


def test_calibrations_have_unique_names(tmp_path, monkeypatch):
    table = [{"low": 0.5, "high": 0.6, "count": 3, "confidence": 0.55, "frequency": 0.5}]
    for run in ("bt", "gpm"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "dev.json").write_text(json.dumps({"calibration": table}))
        (tmp_path / run / "summary.json").write_text(json.dumps({"eval": {"data/dev.jsonl": {"calibration": table}}}))
    drawn = []
    draw = folder.calibration_curve
    monkeypatch.setattr(folder, "calibration_curve", lambda tables, title: drawn.extend(tables) or draw(tables))
    folder.draw_folders([tmp_path / "bt", tmp_path / "gpm"], tmp_path)
    assert sorted(drawn) == ["bt, dev.jsonl", "dev", "gpm, dev.jsonl", "gpm/dev"]


def test_an_unfinished_last_line_is_skipped_and_damage_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert folder.read_curves(path) == [{"step": 1, "loss": 2.0}]
    path.write_text('{"step": 1, "lo\n{"step": 2, "loss": 1.0}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl:1: not JSON"):
        folder.read_curves(path)


def test_folders_with_nothing_to_draw_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no metrics.jsonl, table"):
        folder.draw_folders([tmp_path], tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        folder.draw_folders([tmp_path / "absent"], tmp_path)


def test_a_preferences_file_without_scores_names_the_field(tmp_path):
    (tmp_path / "preferences.json").write_text('{"labels": []}')
    with pytest.raises(ValueError, match="preferences.json: no field 'scores'"):
        folder.draw_preferences(tmp_path / "preferences.json", tmp_path)


def test_a_failed_save_leaves_the_old_picture(tmp_path):
    figure, _ = style.new_figure(1, 1)
    path = style.save(figure, tmp_path / "a.png")
    before = path.read_bytes()
    figure.savefig = lambda *_, **__: (_ for _ in ()).throw(OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        style.save(figure, path)
    assert path.read_bytes() == before
