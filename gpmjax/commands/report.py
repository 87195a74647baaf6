"""One self-contained HTML page of runs and evaluations: figures, curves, circles, heat maps with their texts,
calibration.

    gpmjax report runs/demo                          # runs/demo/report.html
    gpmjax report runs/bt runs/gpm --out=report.html --title="SmolLM2 on arguments" --examples=20

Every run in these directories and below is shown; runs beside each other share their pictures. The page needs no script
and no network.
"""

import datetime
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags, logging

from gpmjax.files import replacing
from gpmjax.owner import owned_output
from gpmjax.reports.page import Chapter, Picture, find_chapters, read_picture, render_page
from gpmjax.reports.page.examples import ExampleGroup
from gpmjax.reports.paper_tables import Table, paper_tables, read_results
from gpmjax.reports.plots import draw_folders, style
from gpmjax.reports.plots.circle import preference_circle

OUT = flags.DEFINE_string("out", "", "The page; report.html in the first directory when empty.")
TITLE = flags.DEFINE_string("title", "", "Its title; the directories' names when empty.")
EXAMPLES = flags.DEFINE_integer("examples", 6, "Groups shown of each file that holds groups.", 0)

# Of an example's scores the page has a heat map of its own, and circles are drawn below, of group records too.
REDRAWN = ("scores_", "circle_")


def pictures(chapter: Chapter, out: Path) -> list[Picture]:
    """Those that the runs of a chapter have in common or each for itself."""
    try:
        written = draw_folders([run.folder for run in chapter.runs], out)
    except FileNotFoundError:  # nothing to draw
        return []
    return [read_picture(path) for path in written if not path.name.startswith(REDRAWN)]


def circle(example: ExampleGroup, out: Path) -> Picture | None:
    """None for a pair, which is one arrow, and for rewards."""
    if example.embedding is None or len(example.embedding) < 3 or example.embedding.shape[-1] % 2:
        return None
    figure = preference_circle(
        example.names, example.embedding, scores=example.scores, scale=example.scale, reward=example.reward
    )
    return read_picture(style.save(figure, out / f"circle_{example.name}.png"))


def tables(folders: Sequence[str]) -> tuple[list[Table], list[str]]:
    """The source's tables, where these runs can fill them, and what is missing for more."""
    try:
        results, remarks = read_results(folders)
    except (FileNotFoundError, ValueError) as error:
        return [], [str(error)]
    return paper_tables(results), remarks


def page(folders: Sequence[str]) -> str:
    """The HTML of runs and evaluations in ``folders``."""
    chapters = find_chapters(folders, EXAMPLES.value)
    found, remarks = tables(folders)
    with tempfile.TemporaryDirectory() as scratch:
        drawn = [pictures(chapter, Path(scratch) / str(n)) for n, chapter in enumerate(chapters)]
        circles = {
            (run.folder, example.name): picture
            for chapter in chapters
            for run in chapter.runs
            for example in run.examples
            if (picture := circle(example, Path(scratch))) is not None
        }
    names = ", ".join(Path(folder).resolve().name for folder in folders)
    return render_page(
        chapters,
        title=TITLE.value or f"Report on {names}",
        pictures=drawn,
        circles=circles,
        tables=found,
        remarks=remarks,
        made=datetime.date.today(),
    )


def main(argv: list[str]) -> None:
    """Writes the page, and prints its path."""
    logging.set_verbosity(logging.WARNING)
    jax.config.update("jax_platforms", "cpu")  # the accelerator may be at work for the very run that is looked at
    if len(argv) < 2:
        sys.exit("error: name one or several run directories")
    out = Path(OUT.value or Path(argv[1]) / "report.html")
    try:
        # Without --out the page goes into a directory that must be there already.
        with owned_output(out if OUT.value or out.parent.is_dir() else None):
            html = page(argv[1:])
            with replacing(out) as partial:
                partial.write_text(html, encoding="utf-8")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(out)
