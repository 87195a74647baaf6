"""What the pages hold: README.md and its siblings, docs/**.md; their blocks of code, their commands."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TUTORIALS = [page for page in PAGES if page.parent.name == "tutorials"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(python (?:launch|benchmarks)/[^`]+)`")
SHELL = ("bash", "sh")


class Block(NamedTuple):
    """A fenced block of a page."""

    line: int
    language: str
    code: str


class Command(NamedTuple):
    """A command of a page, as its words."""

    place: str
    words: list[str]
    whole: bool
    """In a block, to be copied; else it is named in a sentence, and may leave out flags that it needs."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """Every fenced block, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(text.count("\n", 0, found.start()) + 2, *found.groups()) for found in FENCE.finditer(text)]


def shell_words(code: str) -> list[list[str]]:
    """The commands of a shell block as lists of words.

    >>> shell_words("make demo  # first\\npython a.py --x=1 \\\\\\n  --y=2 && python b.py")
    [['make', 'demo'], ['python', 'a.py', '--x=1', '--y=2'], ['python', 'b.py']]
    """
    lines = re.sub(r"\\\n", " ", code).replace("&&", "\n").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def commands(page: Path) -> list[Command]:
    """The commands of a page: those in blocks, and programs of ours that sentences name."""
    found = [
        Command(f"{name_of(page)}:{block.line}", words, True)
        for block in blocks(page)
        if block.language in SHELL
        for words in shell_words(block.code)
    ]
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    return found + [Command(name_of(page), shlex.split(text), False) for text in INLINE.findall(prose)]
