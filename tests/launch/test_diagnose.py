"""`python launch/diagnose.py` from the command line: a table, two files, their pictures and one-line errors."""

import json
from pathlib import Path

import pytest

from gpmjax.reports.plots import draw_run
from tests.launch.programs import run_program

SCRIPT = Path(__file__).parents[2] / "launch" / "diagnose.py"


def run(*flags):
    return run_program(SCRIPT, *flags)


def test_a_table_two_files_and_their_pictures(saved, tmp_path):
    out = tmp_path / "diagnosis.json"
    done = run(f"--model={saved}", "--data=builtin:letters", f"--out={out}", "--max_length=128")
    assert done.returncode == 0, done.stderr
    summary = json.loads(out.read_text())
    assert summary["groups"] == 6 and summary["diagnosis"]["triads"]["triads"] == 6 * 4
    assert summary["diagnosis"]["gate"]["prompts"] == 6
    assert "cyclic triads" in done.stdout and "24 triads" in done.stdout
    labels, model = (summary["diagnosis"]["cycles"][kind] for kind in ("labels", "model"))
    assert labels["comparisons"] == model["comparisons"] == 24 and labels["replicates"] == 199
    assert labels["text"] in done.stdout and model["text"] in done.stdout
    assert "the model's cycles in the labels" in model["text"]
    records = tmp_path / "diagnosis.groups.jsonl"
    assert len(records.read_text().splitlines()) == 6
    again = run(f"--records={records}", f"--out={tmp_path / 'again.json'}", "--replicates=0")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again.json").read_text())["diagnosis"] == summary["diagnosis"] | {"cycles": None}
    assert "vote noise" not in again.stdout
    names = {path.name for path in draw_run(tmp_path)}
    assert names >= {"calibration.png", "cyclic_energy.png", "spectrum_diagnosis.png", "spectrum_again.png"}


def test_labels_alone_are_tested_without_a_model(tmp_path):
    """The labels of each of fifty prompts form a cycle in one file, and an order in the other."""
    for name, wins, text in (
        ("round", ("ab", "bc", "ca"), "cycles beyond vote noise: p = 0.025: found; "),
        ("order", ("ab", "bc", "ac"), "cycles beyond vote noise: p = 1.000: none found; "),
    ):
        data, out = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.json"
        rows = [{"prompt": f"p{n}", "chosen": f"{n}{a}", "rejected": f"{n}{b}"} for n in range(50) for a, b in wins]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = run("--labels_only", f"--data={data}", f"--out={out}", "--replicates=39")
        assert done.returncode == 0, done.stderr
        found = json.loads(out.read_text())
        labels = found["cycles"]["labels"]
        assert text in done.stdout and labels["text"] in done.stdout
        assert (found["groups"], found["responses"], found["comparisons"]) == (50, 150, 150)
        assert labels["triads"]["seen"] == (50 if name == "round" else 0) and labels["replicates"] == 39


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "needs --model or --records, and not both; or --labels_only"),
        (["--labels_only"], "--labels_only needs --data, and neither --model nor --records"),
        (["--labels_only", "--data=x", "--model=y"], "--labels_only needs --data, and neither --model nor --records"),
        (["--labels_only", "--data=x", "--replicates=0"], "--replicates=0: --labels_only needs at least 1"),
        (["--labels_only", "--data=no.jsonl"], "no.jsonl: no such file"),
        (["--model=x", "--data=y"], "--model needs --out"),
        (["--records=no.groups.jsonl"], "no.groups.jsonl: no such file"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_exit_code_1(flags, message):
    done = run(*flags)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert message in line and "Traceback" not in done.stderr
