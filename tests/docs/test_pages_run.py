"""Every Python block of README and docs runs, and every command of the tutorials."""

import os
import subprocess
import sys

import pytest

from tests.docs.pages import PAGES, ROOT, TUTORIALS, blocks, name_of

RUN = ROOT / "tests" / "docs" / "run_pages.py"
WITH_PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


def run(directory, *arguments):
    # A reader's process: one device, and none of the tests' promotion rules; only XLA is told to compile fast.
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, RUN, *map(str, arguments)],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_cycles_by_hand_and_every_page_that_is_no_tutorial(tmp_path):
    pages = [page for page in WITH_PYTHON if page not in TUTORIALS]
    assert len(pages) > 8
    run(tmp_path, ROOT / "docs/tutorials/cycles_by_hand.md", *pages)


def test_a_first_model(tmp_path):
    out = run(tmp_path, ROOT / "docs/tutorials/first_model.md")
    assert "{'bt': 0.75, 'gpm': 1.0}" in out


def test_your_own_data(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    run(tmp_path, "--commands", ROOT / "docs/tutorials/your_own_data.md")
    assert (tmp_path / "runs/mine/report.html").stat().st_size > 10_000


def test_gpo_with_a_tiny_policy(tmp_path, tokenizer_directory):
    tiny = f'--change=source="smollm2"=>source="random:tiny", tokenizer="{tokenizer_directory}"'
    run(tmp_path, tiny, ROOT / "docs/tutorials/gpo_smollm2.md")
    assert (tmp_path / "runs/gpo/iteration-1/policy/config.json").is_file()


def test_every_tutorial_has_a_test_here():
    tests = RUN.with_name("test_pages_run.py").read_text()
    assert [name_of(page) for page in TUTORIALS if name_of(page) not in tests] == []


def test_a_page_that_fails_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nassert 1 + 1 == 3\n```\n")
    with pytest.raises(AssertionError, match=r"page.md\", line 2"):
        run(tmp_path, page)
