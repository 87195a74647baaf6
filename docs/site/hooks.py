"""What mkdocs cannot do by itself: pages that are made from the code, the changelog, and equations as MathML.

mkdocs.yml names this file; every function that begins with ``on_`` is an event of mkdocs.
"""

import ast
import dataclasses
import html
import re
from pathlib import Path

from docstrings import as_markdown
from latex2mathml.converter import convert
from mkdocs.structure.files import File

from gpmjax.config import Config, ImproveConfig
from gpmjax.config.help import field_texts

ROOT = Path(__file__).parent.parent.parent
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
REFERENCE = "Every public module, class and function, from the docstrings. A page a package:\n"
FIELDS = (
    "Every field of a config, made from the dataclasses in `gpmjax/config`. The command line overrides a field:\n"
    "`--config.model.dim=8`. How configs work: [Configs](configs.md).\n"
)


def packages() -> dict[str, list[str]]:
    """The name of a page → its modules: one page for every package, and ``gpmjax`` for the modules beside them."""
    pages: dict[str, list[str]] = {}
    for path in sorted((ROOT / "gpmjax").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        pages.setdefault(".".join(parts[1:-1]) or "gpmjax", []).append(".".join(parts).removesuffix(".__init__"))
    return pages


def page_name(package: str) -> str:
    return f"reference/{package.replace('.', '_')}.md"


def reference_page(package: str, modules: list[str]) -> str:
    """Markdown that mkdocstrings fills in: the package, then its modules."""
    title = package if package == "gpmjax" else f"gpmjax.{package}"
    return f"# `{title}`\n\n" + "\n".join(f"::: {module}\n" for module in modules)


def first_line(module: str) -> str:
    path = ROOT / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").split("\n")[0]


def reference_index(pages: dict[str, list[str]]) -> str:
    lines = [
        f"| [`{name}`]({Path(page_name(name)).name}) | {first_line(modules[0])} |" for name, modules in pages.items()
    ]
    return "\n".join(["# Reference", "", REFERENCE, "| package | |", "|---|---|", *lines, ""])


def field_tables(config: object, name: str, level: int = 2) -> list[str]:
    """Headings and tables of a config and of the dataclasses in it."""
    texts, rows, below = field_texts(type(config)), [], []
    for field in dataclasses.fields(config):
        value, path = getattr(config, field.name), f"{name}.{field.name}"
        if dataclasses.is_dataclass(value):
            below += field_tables(value, path, min(level + 1, 3))
        else:
            kind, text = texts[field.name]
            text = as_markdown(text).replace("|", "\\|")
            rows.append(f"| `{path.partition('.')[2]}` | `{kind.replace('|', 'or')}` | `{value!r}` | {text} |")
    about = " ".join((type(config).__doc__ or "").split("\n\n")[0].split())
    about = "" if about.startswith(f"{type(config).__name__}(") else about  # what dataclasses write by themselves
    head = [f"{'#' * level} {name}", "", as_markdown(about), ""]
    return head + (["| field | type | default | meaning |", "|---|---|---|---|", *rows, ""] if rows else []) + below


def config_fields() -> str:
    """The page of all fields: those of a fit, then those of a policy."""
    fit = field_tables(Config(), "config")
    improve = field_tables(ImproveConfig(), "config")
    fit[0], improve[0] = "## A preference model: `Config`", "## A policy: `ImproveConfig`"
    # Both have parts of the same name: their headings need different anchors.
    improve = [f"{line} {{ #policy-{line[4:]} }}" if line.startswith("### ") else line for line in improve]
    return "\n".join(["# Config fields", "", FIELDS, *fit, *improve])


def on_config(config):
    """Puts a navigation entry for every package in the place of the word ``reference``."""
    pages = [
        "reference/index.md",
        *({f"gpmjax.{name}" if name != "gpmjax" else name: page_name(name)} for name in packages()),
    ]
    for entry in config["nav"]:
        if entry.get("Reference") == "reference":
            entry["Reference"] = pages
    return config


def on_files(files, config):
    """Adds the pages that are made here."""
    pages = packages()
    made = {page_name(name): reference_page(name, modules) for name, modules in pages.items()}
    made["reference/index.md"] = reference_index(pages)
    made["guides/config_fields.md"] = config_fields()
    made["changelog.md"] = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_content(text, page, config, files):
    """Equations as MathML, which browsers draw without a script."""

    def mathml(found: re.Match) -> str:
        display = "block" if found[1] == "div" else "inline"
        return convert(html.unescape(found[2]).strip(), display=display)

    return EQUATION.sub(mathml, text)
