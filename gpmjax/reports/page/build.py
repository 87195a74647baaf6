"""Chapters and pictures → HTML, by page.html.j2. Everything that comes from data is escaped; pictures are data URIs."""

import base64
import datetime
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

from gpmjax.files import using
from gpmjax.reports.page.examples import Example
from gpmjax.reports.page.folders import Chapter, Run
from gpmjax.reports.page.sections import section
from gpmjax.reports.source_tables.render import Table, notes
from gpmjax.reports.tables.evaluation import over
from gpmjax.version import __version__

# By the beginning of a picture's file name: title, and what is to be seen.
CAPTIONS = {
    "learning_curves": (
        "Learning curves",
        "Dashed with markers: evaluations. Faint, where there are many steps: each one; bold: their moving average.",
    ),
    "calibration": (
        "Calibration",
        "How often the favoured side won, by how sure the model was; below, comparisons a bin. On the dotted line confidence and "
        "frequency agree.",
    ),
    "accuracy": ("Accuracy", "Dotted: a coin toss; black: the best that any scalar reward can do."),
    "cyclic_energy": ("Cyclic energy", "How much of a group's scores no scalar could give, group by group."),
    "spectrum": ("Spectrum", "The gate's eigenvalues over prompts, and which block decides which pairs."),
    "subspaces": ("Subspaces", "What each block has to do with each rated aspect."),
    "improvement": (
        "Iterations",
        "Win rate, length, distance from the first policy and entropy, iteration by iteration.",
    ),
}


class Picture(NamedTuple):
    """A PNG file's contents."""

    name: str
    """Its file name, without ".png"."""
    data: bytes

    @property
    def uri(self) -> str:
        """The whole of it, as an address."""
        return "data:image/png;base64," + base64.b64encode(self.data).decode()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels, two of its own to each, so that it is sharp on dense screens."""
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
    """Raises ValueError, naming the file, when it is no PNG."""
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
    """The page.

    Args:
      pictures: of each chapter.
      circles: by a run's folder and an example's name.
      tables: shown before the chapters.
      remarks: what the tables leave out, a line each.
      made: written under the title.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "number": number,
        "places": places,
        "score": score_text,
        "beaten": beaten,
        "over": over,
    }
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
    """A name of its own for each run's section."""
    runs: list[Run] = [run for chapter in chapters for run in chapter.runs]
    return {run.folder: f"run-{n}" for n, run in enumerate(runs, start=1)}


def percent(share: float | None) -> str:
    """
    >>> percent(0.745), percent(None)
    ('74.5', '–')
    """
    return "–" if share is None else f"{100 * share:.1f}"


def number(value: float | None) -> str:
    """Thousands apart; four figures of a fraction.

    >>> number(12345), number(18.10485), number(None)
    ('12,345', '18.1', '–')
    """
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def places(value: float | None) -> str:
    """
    >>> places(0.44412), places(None)
    ('0.444', '–')
    """
    return "–" if value is None else f"{value:.3f}"


def score_text(value: float) -> str:
    """With a sign, and as many places as there is room for.

    >>> score_text(-0.5), score_text(61.78), score_text(-0.0), score_text(1234.5)
    ('−0.50', '+61.8', '0.00', '+1234')
    """
    places = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    text = f"{value:+.{places}f}"
    return text[1:] if not text.strip("+-0.") else text.replace("-", "−")


def beaten(example: Example) -> str:
    """Who beats whom, in words, for those who do not see the circle."""
    names = example.names
    pairs = [(i, j) for i, row in enumerate(example.scores) for j, score in enumerate(row) if score > 0 and i != j]
    said = "; ".join(f"{names[i]} beats {names[j]}" for i, j in pairs[:12])
    return said + (f"; and {len(pairs) - 12} more" if len(pairs) > 12 else "")
