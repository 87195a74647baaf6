"""`python launch/lint_data.py` from the command line: a table, and an exit status for scripts."""

import os
import subprocess
import sys

from tests.launch.programs import run_program


def lint_data(*flags, env=None):
    if env is None:
        return run_program("launch/lint_data.py", *flags)
    command = [sys.executable, "launch/lint_data.py", *flags]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, env=env)


def test_the_exit_status_is_1_for_errors(tmp_path):
    data = tmp_path / "pairs.jsonl"
    data.write_text('{"prompt": "Q", "chosen": "a", "rejected": "b"}\n')
    clean = lint_data(f"--data={data}")
    assert clean.returncode == 0 and "length bias" in clean.stdout, clean.stderr
    with data.open("a") as file:
        file.write('{"prompt": "Q", "chosen": "b", "rejected": "a"}\n{"prompt": "Q", "chosen": "[c]", "rejected": 7}\n')
    faulty = lint_data(f"--data={data}", "--template=raw", "--max_length=64")
    assert faulty.returncode == 1 and faulty.stderr == ""
    assert "contradicting" in faulty.stdout and "unreadable" in faulty.stdout and "pairs.jsonl:3" in faulty.stdout


def test_a_row_number_is_not_cut_in_narrow_terminals(tmp_path):
    data = tmp_path / ("a_name_that_fills_a_narrow_terminal_by_itself" * 2 + ".jsonl")
    data.write_text(
        '{"prompt": "Q", "chosen": "a", "rejected": "b"}\n' + "\n" * 123_454 + '{"prompt": "Q"}\n', encoding="utf-8"
    )
    for columns in ("30", "80", "200"):
        found = lint_data(f"--data={data}", env=os.environ | {"COLUMNS": columns})
        assert found.returncode == 1 and found.stderr == ""
        assert f"{data.name}:123456: field 'chosen': missing" in found.stdout or columns == "200"
        assert ":123456: field" in found.stdout


def test_a_file_that_cannot_be_read_is_a_one_line_error(tmp_path):
    missing = lint_data(f"--data={tmp_path}/none.jsonl")
    assert missing.returncode == 1 and missing.stderr.startswith("error: ") and missing.stderr.count("\n") == 1
