"""Renders chapters and pictures as HTML by page.html.j2. Text from data is escaped, and pictures are data URIs."""

import base64
import datetime
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

from gpmjax.files import using
from gpmjax.reports.numbers import decimals, interval_unit, percent, signed, thousands
from gpmjax.reports.page.examples import ExampleGroup
from gpmjax.reports.page.folders import Chapter, RunFolder
from gpmjax.reports.page.sections import section
from gpmjax.reports.paper_tables.render import Table, notes
from gpmjax.version import __version__

# Beginning of a picture's file name → title and explanation.
CAPTIONS = {
    "learning_curves": (
        "Learning curves",
        "Dashed with markers: evaluations. Faint, where there are many steps: each one; bold: their moving average.",
    ),
    "calibration": (
        "Calibration",
        "How often the favoured side won, by the model's confidence; below, comparisons per bin. "
        "On the dotted line confidence and frequency agree.",
    ),
    "accuracy": ("Accuracy", "Dotted: a coin toss; black: the highest accuracy that any scalar reward can reach."),
    "cyclic_energy": ("Cyclic energy", "The share of each group's scores that no scalar reward can produce."),
    "spectrum": ("Spectrum", "The gate's eigenvalues over prompts, and the pairs that each block decides."),
    "subspaces": ("Subspaces", "How each block correlates with each rated aspect."),
    "improvement": (
        "Iterations",
        "Win rate, length, KL from the first policy and entropy at each iteration.",
    ),
}


class Picture(NamedTuple):
    """A PNG file's contents."""

    name: str
    """The file's name, without ".png"."""
    data: bytes

    @property
    def uri(self) -> str:
        """The contents as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.data).decode()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels. Two pixels of the picture make one, so that it is sharp on dense screens."""
        width, height = struct.unpack(">II", self.data[16:24])
        return width // 2, height // 2

    @property
    def caption(self) -> tuple[str, str]:
        """Title and explanation.

        >>> Picture("gate_spectrum", b"").caption
        ('Gate spectrum', '')
        """
        for beginning, caption in CAPTIONS.items():
            if self.name.startswith(beginning):
                return caption
        return self.name.replace("_", " ").capitalize(), ""


def read_picture(path: Path) -> Picture:
    """Reads a PNG file. Raises ValueError, naming the file, when it is no PNG."""
    data = path.read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{path}: not a PNG file")
    return Picture(path.stem, data)


def render_page(
    chapters: Sequence[Chapter],
    *,
    title: str,
    pictures: Sequence[Sequence[Picture]],
    circles: Mapping[tuple[Path, str], Picture],
    tables: Sequence[Table] = (),
    remarks: Sequence[str] = (),
    made: datetime.date,
) -> str:
    """The page as HTML.

    Args:
      pictures: the pictures of each chapter.
      circles: (a run's folder, an example's name) → its preference circle.
      tables: tables shown before the chapters.
      remarks: lines on what the tables leave out.
      made: date written under the title.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (percent, thousands, decimals, interval_unit, score_text, beaten)
    environment.filters |= {format.__name__: format for format in formats}
    sections = {run.folder: section(run) for chapter in chapters for run in chapter.runs}
    folders = ", ".join(str(run.folder) for chapter in chapters for run in chapter.runs)
    with using(folders, "a run or an evaluation", jinja2.TemplateError):
        return environment.get_template("page.html.j2").render(
            title=title,
            chapters=chapters,
            sections=sections,
            pictures=pictures,
            circles=circles,
            tables=[(table, notes(table)) for table in tables],
            remarks=remarks,
            made=made.strftime("%d %B %Y").lstrip("0"),
            version=__version__,
            anchor=_anchors(chapters),
        )


def _anchors(chapters: Sequence[Chapter]) -> Mapping[Path, str]:
    """Folder → a unique anchor for the run's section."""
    runs: list[RunFolder] = [run for chapter in chapters for run in chapter.runs]
    return {run.folder: f"run-{n}" for n, run in enumerate(runs, start=1)}


def score_text(value: float) -> str:
    """A score for a cell of the heat map: with a sign unless it is 0, and as many places as the cell has room for.

    >>> score_text(-0.5), score_text(61.78), score_text(-0.0), score_text(1234.5)
    ('−0.50', '+61.8', '0.00', '+1234')
    """
    text = signed(value, 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0)
    return text if text.strip("+−0.") else text[1:]


def beaten(example: ExampleGroup) -> str:
    """The arrows of the preference circle in words, as its alternative text."""
    names = example.names
    pairs = [(i, j) for i, row in enumerate(example.scores) for j, score in enumerate(row) if score > 0 and i != j]
    words = "; ".join(f"{names[i]} beats {names[j]}" for i, j in pairs[:12])
    return words + (f"; and {len(pairs) - 12} more" if len(pairs) > 12 else "")
