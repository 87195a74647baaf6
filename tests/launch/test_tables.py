"""`python launch/tables.py` on the figures of benchmarks/results."""

from pathlib import Path

from tests.launch.programs import run_program

ROOT = Path(__file__).parents[2]
SHEET = ROOT / "benchmarks" / "results" / "real_data.json"


def run(*flags):
    return run_program(ROOT / "launch" / "tables.py", *flags)


def test_the_readmes_ablation_is_printed_and_written(tmp_path):
    ablation = ("--table=7", "--set=ukp*", "--rename=ablation=ukp_arguments", SHEET)
    done = run(*ablation, f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"table7_ukp-arguments.md", "table7_ukp-arguments.csv"}
    text = (tmp_path / "table7_ukp-arguments.md").read_text()
    assert "| BT | – | – | 1 | 1 | **81.4** [79.4, 83.2] | 0.444 |" in text
    assert "| GPM | softmax | yes | 8 | 1 | 80.1 (−1.3) [78.1, 82.0] | 0.642 |" in text
    assert run(*ablation).stdout.strip() == text.strip()


def test_mistakes_are_one_line():
    for flags, words in (
        ("--set=nothing", "--set=nothing: the files have ablation, summeval"),
        ("--table=2", "nothing for table 2"),
    ):
        done = run(flags, SHEET)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
