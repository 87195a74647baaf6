"""`python launch/evaluate.py` from the command line: a table, two files and one-line errors."""

import json
import shutil
from pathlib import Path

import pytest

from tests.launch.programs import run_program

SCRIPT = Path(__file__).parents[2] / "launch" / "evaluate.py"


def run(*flags):
    return run_program(SCRIPT, *flags)


def test_a_table_a_summary_and_rows(saved, tmp_path):
    out = tmp_path / "letters.json"
    done = run(f"--model={saved}", "--data=builtin:letters", f"--out={out}", "--max_length=128", "--by=game")
    assert done.returncode == 0, done.stderr
    summary = json.loads(out.read_text())
    assert summary["max_length"] == 128 and summary["comparisons"] == 24
    table = [line.split("│")[1:5] for line in done.stdout.splitlines() if "everything" in line]
    assert [[cell.strip() for cell in row] for row in table] == [
        ["everything", "24", "6", f"{100 * summary['accuracy']:.1f}"]
    ]
    assert len((tmp_path / "letters.rows.jsonl").read_text().splitlines()) == 24


def test_a_published_checkpoint_is_read_as_the_flags_declare(saved, tmp_path):
    shutil.copytree(saved, model := tmp_path / "model")
    (model / "tokenizer.json").unlink()
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    del config["gpmjax"]
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    declared = "--gate=softmax", "--normalise=l2", "--tau=0.1", "--bos_tokens=2", "--gate_at=first_message"
    out = tmp_path / "out.json"
    done = run(
        f"--model={model}",
        "--data=builtin:letters",
        f"--out={out}",
        *declared,
        f"--tokenizer={saved}",
        "--max_length=128",
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(out.read_text())
    assert {"bos_tokens": 2, "gate_at": "first_message"}.items() <= summary["spec"].items()


def test_a_benchmark_is_run_and_resumed(saved, tmp_path):
    texts = [f"response {n}" for n in range(4)]
    rows = [
        {"prompt": f"p {n}", "chosen": texts[:1], "rejected": texts[1:], "subset": "Focus", "id": str(n)}
        for n in range(3)
    ]
    data, out = tmp_path / "rb2.jsonl", tmp_path / "out.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "p", "subset": "Focus"}]))
    flags = f"--model={saved}", "--benchmark=rewardbench2", f"--data={data}", f"--out={out}", "--max_length=128"
    done = run(*flags, "--aggregation=copeland")
    assert done.returncode == 0, done.stderr
    summary = json.loads(out.read_text())
    assert summary["max_length"] == 128 and summary["rows"]["judged"] == 3 and summary["aggregation"] == "copeland"
    assert f"{100 * summary['score']:.1f}" in done.stdout and f"{data}:4: field 'chosen': missing" in done.stdout
    assert json.loads((tmp_path / "out.rewardbench.json").read_text())["Focus"] == summary["score"]
    # A killed run leaves one record missing and another one unfinished.
    records = tmp_path / "out.groups.jsonl"
    whole = records.read_text()
    records.write_text(whole[: len(whole) // 2])
    out.unlink()
    done = run(*flags, "--aggregation=copeland")
    assert done.returncode == 0, done.stderr
    again = json.loads(out.read_text())
    assert again["rows"] == summary["rows"] and len(records.read_text().splitlines()) == 3
    assert records.read_text().startswith(whole[: len(whole) // 3])


@pytest.mark.parametrize("flags", [(), ("--benchmark=rewardbench",)])
def test_a_mistake_is_one_line_and_exit_code_1(tmp_path, flags):
    done = run(f"--model={tmp_path}", "--data=builtin:letters", *flags)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert str(tmp_path) in line and "config.json" in line and "Traceback" not in done.stderr
