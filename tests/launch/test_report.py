"""`python launch/report.py` on every kind of file that runs write, opened in a real browser."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from gpmjax.evals.metrics import comparison_figures
from tests.launch.programs import run_program

SCRIPT = Path(__file__).parents[2] / "launch" / "report.py"
HOSTILE = "</div></style><script>console.error('run')</script><img src=http://127.0.0.1:9/a.png> & \u202e" + "x" * 3000


def run(*flags):
    return run_program(SCRIPT, *flags)


def write(path, *documents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))


def figures():
    numbers = np.random.default_rng(0)
    lengths = {unit: (numbers.integers(1, 99, 60), numbers.integers(1, 99, 60)) for unit in ("tokens", "characters")}
    tags = [{"subset": f"{HOSTILE[:60]} {n % 3}", "group": f"group {n % 20}"} for n in range(60)]
    return comparison_figures(numbers.normal(0.3, 1, 60), np.ones(60), 1.0, lengths=lengths, tags=tags)


def group(count, dim):
    v = np.random.default_rng(count).normal(size=(count, dim))
    scores = sum(np.outer(v[:, i], v[:, i + 1]) - np.outer(v[:, i + 1], v[:, i]) for i in range(0, dim, 2))
    texts = {"prompt": HOSTILE, "responses": [f"{HOSTILE} {n}" for n in range(count)]}
    return {"embedding": v.tolist(), "scores": scores.tolist(), "texts": texts, "tau": 0.5}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two fits in one folder, one of them evaluated, a policy's run, and a group of 12 responses in six dimensions."""
    root = tmp_path_factory.mktemp("runs")
    for name, kind in {"bt": {"kind": "bt", "dim": 1}, "gpm": {"kind": "gpm", "dim": 6}}.items():
        model = {"source": "tiny", "gate": "none", "normalise": "none", "tau": 1.0} | kind
        config = {
            "seed": 0,
            "model": model,
            "loss": {"objective": "cross_entropy"},
            "data": {"train": ["a.jsonl"], "max_length": 64},
        }
        done = {"status": "finished", "step": 30, "eval": {"d/dev.jsonl": figures()}, "config": config, "seconds": 3.0}
        write(root / name / "summary.json", done)
        write(root / name / "metrics.jsonl", *({"step": step, "loss": 1 / step} for step in range(1, 31)))
    write(
        root / "gpm" / "preferences-0.json",
        group(12, 6) | {"labels": [f"{HOSTILE[:40]}{n}" for n in range(12)], "title": HOSTILE[:50]},
    )
    record = group(3, 2) | {
        "source": "dev.jsonl:1",
        "comparisons": [[0, 1, 1.0], [1, 2, 0.0], [0, 2, 0.5]],
        "tokens": [4, 5, 6],
    }
    record["scores"][0][0], record["tags"] = None, {"subset": HOSTILE}
    bare = {"source": "dev.jsonl:2", "scores": [[0.0, None], [-1.0, 0.0]], "tau": 1.0}
    write(root / "gpm" / "dev.groups.jsonl", record, bare)
    write(
        root / "gpm" / "dev.json",
        {"model": HOSTILE, "data": "dev.jsonl", "spec": {"kind": "gpm"}, "max_length": 64, **figures()},
    )
    section = {"score": 0.75, "interval": [0.7, 0.8]}
    benchmark = {"benchmark": "rewardbench", "model": str(root / "gpm" / "model"), "judge": {"spec": {"kind": "gpm"}}}
    write(
        root / "gpm" / "rewardbench.json",
        benchmark | section | {"sections": {"Chat": section, "Safety": {"score": None}}},
    )
    rates = {"win_rate": 0.6, "standard_error": None}
    line = {"iteration": 1, "length": {"mean": 20.0}, "kl_base_k1": 0.1, "judge": {"judge": rates, "trainer": rates}}
    write(root / "policy" / "run" / "summary.json", {"iterations": [line]})
    return root


@pytest.fixture(scope="module")
def page(runs):
    done = run(runs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(runs / "report.html")
    return runs / "report.html"


OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
OPEN_ALL = "document.querySelectorAll('details').forEach(d => d.open = true)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_opens_without_warnings_or_requests_and_fits_its_window(browser, page, width, scheme):
    browser.open(page.as_uri(), width=width, scheme=scheme)
    assert browser.evaluate("document.documentElement.clientWidth") == width
    assert browser.evaluate(OVERFLOW) == 0
    browser.evaluate(OPEN_ALL)
    assert browser.evaluate(OVERFLOW) == 0
    assert browser.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert browser.complaints() == []
    assert [address for address in browser.requests() if not address.startswith("data:image/png")] == [page.as_uri()]


def test_the_browser_reports_a_faulty_page(browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<script>console.error(1)</script><img src='http://127.0.0.1:9/a.png'><p style='width:3000px'>wide")
    browser.open(bad.as_uri(), width=400)
    assert browser.evaluate(OVERFLOW) > 0 and browser.complaints()
    assert "http://127.0.0.1:9/a.png" in browser.requests()


def test_the_page_works_without_scripts_and_by_keyboard(browser, page):
    browser.open(page.as_uri(), width=1280, script=False)
    for key, code in (("Tab", 9), ("Enter", 13)):  # the first link skips to the results
        for kind in ("rawKeyDown", "char", "keyUp"):
            text = {"text": "\r"} if (key, kind) == ("Enter", "char") else {}
            if kind != "char" or text:
                browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)
    assert browser.evaluate("location.hash") == "#main"
    assert browser.evaluate("document.scripts.length") == 0
    # Each scrolling box can have the focus and has a name.
    assert browser.evaluate(
        "[...document.querySelectorAll('.scroll')].every(box => box.tabIndex === 0 && box.ariaLabel)"
    )


def test_the_page_is_accessible_to_screen_readers(browser, page):
    browser.open(page.as_uri(), width=1280)
    assert browser.evaluate("[...document.images].every(image => image.alt.length > 10)")
    levels = browser.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(heading => +heading.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    links = browser.evaluate("[...document.querySelectorAll('a')].map(link => link.getAttribute('href'))")
    assert all(browser.evaluate(f"document.querySelector({link!r}) !== null") for link in links)
    names = browser.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(set(names)) == len(names)


def test_hostile_texts_are_shown_in_full_and_not_run(browser, page):
    browser.open(page.as_uri(), width=1280)
    texts = browser.evaluate("[...document.querySelectorAll('.words')].map(words => words.textContent)")
    assert texts.count(HOSTILE) == 2  # the prompts of both groups
    assert {f"{HOSTILE} {n}" for n in range(12)} <= set(texts)


def test_the_page_shows_every_part_of_the_runs(browser, page):
    browser.open(page.as_uri(), width=1280)
    captions = browser.evaluate("[...document.querySelectorAll('figcaption b')].map(title => title.textContent)")
    assert {"Learning curves.", "Calibration.", "Iterations."} <= set(captions)
    labelled = "[...document.querySelectorAll('td.right, td.wrong')].length"
    assert browser.evaluate(labelled) == 2  # one of the three comparisons is a tie
    assert browser.evaluate("document.querySelectorAll('.circle img').length") == 2
    text = browser.evaluate("document.body.textContent")
    words = (
        "Bradley–Terry",
        "GPM, 2k = 6",
        "rewardbench (rewardbench.json)",
        "does not hold this group's texts",
        "no score of 'Safety'",
    )
    assert not [missing for missing in words if missing not in text]


def test_a_mistake_is_one_line(tmp_path):
    (tmp_path / "preferences-0.json").write_text('{"labels": []}')
    done = run(tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip() == f"error: {tmp_path}/preferences-0.json: no field 'scores'"
