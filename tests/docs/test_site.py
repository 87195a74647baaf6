"""The built site: strict, without a network, its pages readable at 1280 and at 400 pixels, its equations drawn."""

import os
import re
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT
from tests.launch.conftest import browser

__all__ = ["browser"]

MAIN = (
    "index.html",
    "tutorials/first_model.html",
    "guides/config_fields.html",
    "concepts/model.html",
    "results/preferences.html",
    "reference/preference.html",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a fresh build; `make docs` does the same."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_module_and_every_config_field_has_a_place(built):
    reference = "".join(path.read_text(encoding="utf-8") for path in built.glob("reference/*.html"))
    modules = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "gpmjax").rglob("*.py")]
    names = [".".join(module.parts).removesuffix(".__init__") for module in modules]
    assert [name for name in names if f'id="{name}"' not in reference] == []
    fields = (built / "guides/config_fields.html").read_text(encoding="utf-8")
    for field in ("model.dim", "loss.curl", "rollout.top_p", "scorer.function"):
        assert f"<code>{field}</code>" in fields
    assert "no such" not in fields and fields.count("<tr>") > 100


def test_nothing_is_loaded_from_elsewhere(built):
    for path in built.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?([^\" >]+)", text)
        loaded += re.findall(r"<link[^>]*rel=\"?(?:stylesheet|icon|preconnect)\"?[^>]*href=\"?([^\" >]+)", text)
        assert [address for address in loaded if "//" in address] == [], path


@pytest.mark.parametrize("width", [1280, 400])
def test_the_main_pages_in_a_browser(built, browser, width):
    for page in MAIN:
        browser.open((built / page).as_uri(), width=width)
        assert browser.complaints() == [], page
        assert [address for address in browser.requests() if not address.startswith(("file:", "data:", "blob:"))] == []
        assert browser.evaluate("document.querySelector('h1').innerText").strip()
        # Wide tables and formulas scroll within themselves, the page does not.
        assert browser.evaluate("document.documentElement.scrollWidth") <= width, page


def test_equations_are_drawn(built, browser):
    browser.open((built / "concepts/model.html").as_uri(), width=1280)
    heights = browser.evaluate("[...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().height)")
    assert len(heights) > 10 and min(heights) > 5
    assert "arithmatex" not in browser.evaluate("document.body.innerHTML")
