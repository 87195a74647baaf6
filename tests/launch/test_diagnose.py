"""`python launch/diagnose.py` as a user runs it: a table, two files, pictures of them; or one line of what is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gpmjax.plots import draw_run

SCRIPT = Path(__file__).parents[2] / "launch" / "diagnose.py"


def run(*flags):
    return subprocess.run([sys.executable, SCRIPT, *flags], capture_output=True, text=True, timeout=300, check=False)


def test_a_table_two_files_and_their_pictures(saved, tmp_path):
    out = tmp_path / "diagnosis.json"
    done = run(f"--model={saved}", "--data=builtin:letters", f"--out={out}", "--max_length=128")
    assert done.returncode == 0, done.stderr
    summary = json.loads(out.read_text())
    assert summary["groups"] == 6 and summary["diagnosis"]["triads"]["triads"] == 6 * 4
    assert summary["diagnosis"]["gate"]["prompts"] == 6
    assert "cyclic triads" in done.stdout and "24 triads" in done.stdout
    records = tmp_path / "diagnosis.groups.jsonl"
    assert len(records.read_text().splitlines()) == 6
    again = run(f"--records={records}", f"--out={tmp_path / 'again.json'}")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again.json").read_text())["diagnosis"] == summary["diagnosis"]
    names = {path.name for path in draw_run(tmp_path)}
    assert names >= {"calibration.png", "cyclic_energy.png", "spectrum_diagnosis.png", "spectrum_again.png"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "needs --model or --records, and not both"),
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
