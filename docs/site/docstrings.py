"""Docstrings as Markdown, which mkdocstrings takes them for: doctests and aligned tables go into fences."""

import re

import griffe

CODE = re.compile(r"(``.+?``|`[^`]+`)")


def as_markdown(text: str) -> str:
    """A docstring in which nothing is taken for Markdown that was not meant as such.

    >>> print(as_markdown("An array [..., K].\\n\\n>>> 1 + 1\\n2"))
    An array \\[..., K].
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    return "\n\n".join(_block(block) for block in text.split("\n\n"))


def _block(block: str) -> str:
    lines = block.split("\n")
    for number, line in enumerate(lines):
        if line.lstrip().startswith(">>> "):
            before = [_block("\n".join(lines[:number])), ""] if number else []
            return "\n".join([*before, *_fenced(lines[number:], "pycon")])
    aligned = sum(bool(re.match(r"\S+( \S+)*  +\S", line)) for line in lines)
    if len(lines) > 1 and 2 * aligned > len(lines):
        return "\n".join(_fenced(lines, "text"))
    if lines[0].startswith("    "):
        return block
    return "\n".join("".join(_escaped(part) for part in CODE.split(line)) for line in lines)


def _fenced(lines: list[str], language: str) -> list[str]:
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    return [f"{indent}```{language}", *lines, f"{indent}```"]


def _escaped(part: str) -> str:
    return part if part.startswith("`") else part.replace("[", "\\[").replace("<", "&lt;")


class Docstrings(griffe.Extension):
    """Changes every docstring as it is read."""

    def on_object(self, *, obj, **_) -> None:
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
