"""What README and docs say of the tree is so: paths, names, links, the README's length, and where figures come from."""

import ast
import importlib
import re

import pytest

from gpmjax.config.file import RENAMED
from tests.docs.pages import FENCE, PAGES, ROOT, name_of

MADE = {"reference", "changelog.md", "config_fields.md"}
"""Pages that docs/site/hooks.py makes."""
PATH = re.compile(r"(?<![\w./-])((?:gpmjax|launch|configs|benchmarks|tests|docs)/[\w./*-]+\w)")
YOURS = {"docs/build"}
DATE = re.compile(r"\d{4}-\d\d-\d\d")


def prose(page):
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def test_the_readme_is_a_page():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150 and max(map(len, lines)) <= 140


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_paths_and_names_exist(page):
    text = page.read_text(encoding="utf-8")
    assert [path for path in PATH.findall(text) if not list(ROOT.glob(path))] == []
    # A path in backticks is one, and so is a dotted name; a name of a module may go on with one that it holds.
    for name in re.findall(r"`(gpmjax(?:\.\w+)+)[`(]", text):
        if name in RENAMED:
            continue
        parts, holder = name.split("."), None
        for length in range(len(parts), 0, -1):
            path = ROOT.joinpath(*parts[:length])
            if path.is_dir() or path.with_suffix(".py").is_file():
                holder = importlib.import_module(".".join(parts[:length]))
                break
        for part in parts[length:]:
            assert hasattr(holder, part), f"{name_of(page)}: {name}"
            holder = getattr(holder, part)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    """mkdocs checks those between pages of the site; README and its siblings are read elsewhere."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "#")) or MADE & set(target.split("#")[0].split("/")):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path
        assert there.exists(), (name_of(page), target)
        if anchor:
            headings = re.findall(r"^#+ (.*)$", prose(there), re.MULTILINE)
            slugs = {re.sub(r"[^\w\s-]", "", h.lower()).strip().replace(" ", "-") for h in headings}
            assert anchor in {slug.encode("ascii", "ignore").decode() for slug in slugs}, (name_of(page), target)


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/results/*.md")), ids=name_of)
def test_every_table_of_results_has_a_command_a_machine_and_a_date(page):
    for section in re.split(r"^##? ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        numbers = [line for line in section.splitlines() if line.startswith("|") and re.search(r"\d\.\d", line)]
        if numbers:
            title = section.splitlines()[0]
            assert re.search(r"`(python|make) |memory_analysis", section), f"{title}: no command"
            assert re.search(r"2-core|2 cores|machine and date as above|same machine", section, re.IGNORECASE), (
                f"{title}: no machine"
            )
            assert DATE.search(section), f"{title}: no date"


def public_without_docstring():
    """Public functions and classes, and public methods of public classes, that say nothing about themselves.

    A method that a base class or a protocol describes needs no docstring of its own, nor does one of a few words:
    properties, ``validate``, and what Python calls by itself.
    """
    found = []
    for path in sorted((ROOT / "gpmjax").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree):
            found.append(module)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                found += [] if ast.get_docstring(node) else [f"{module}.{node.name}"]
    return found


def test_every_public_module_class_and_function_has_a_docstring():
    assert public_without_docstring() == []
