"""The command: a table, and an exit status that a script can act on."""

import subprocess
import sys


def lint_data(*flags):
    return subprocess.run([sys.executable, "launch/lint_data.py", *flags], capture_output=True, text=True, timeout=120)


def test_exit_status_says_whether_there_are_errors(tmp_path):
    data = tmp_path / "pairs.jsonl"
    data.write_text('{"prompt": "Q", "chosen": "a", "rejected": "b"}\n')
    clean = lint_data(f"--data={data}")
    assert clean.returncode == 0 and "length bias" in clean.stdout, clean.stderr
    with data.open("a") as file:
        file.write('{"prompt": "Q", "chosen": "b", "rejected": "a"}\n{"prompt": "Q", "chosen": "[c]", "rejected": 7}\n')
    spoilt = lint_data(f"--data={data}", "--template=raw", "--max_length=64")
    assert spoilt.returncode == 1 and spoilt.stderr == ""
    assert "contradicting" in spoilt.stdout and "unreadable" in spoilt.stdout and "pairs.jsonl:3" in spoilt.stdout


def test_what_cannot_be_read_is_one_line(tmp_path):
    missing = lint_data(f"--data={tmp_path}/none.jsonl")
    assert missing.returncode == 1 and missing.stderr.startswith("error: ") and missing.stderr.count("\n") == 1
