"""A table of accuracies as markdown, for people, and as CSV, for programs."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from gpmjax.reports.source_tables.estimate import Estimate

EMPTY = "–"
WHAT = {
    "seeds": "95 % bootstrap over seeds",
    "prompts": "95 % over prompts",
    "comparisons": "95 % bootstrap over comparisons",
    "file": "95 % as in the file: Wilson's, or a benchmark's own",
}


@dataclass(frozen=True)
class Cell:
    """An accuracy, and its difference to the Bradley–Terry model's, in [0, 1]."""

    estimate: Estimate
    difference: float | None = None

    def __str__(self) -> str:
        """In per cent.

        >>> str(Cell(Estimate(0.745, (0.70, 0.79), 1, "comparisons"), 0.056))
        '74.5 (+5.6) [70.0, 79.0]'
        """
        text = f"{100 * self.estimate.mean:.1f}"
        if self.difference is not None:
            text += f" ({100 * self.difference:+.1f})".replace("-", "−")
        if self.estimate.interval is not None:
            text += f" [{100 * self.estimate.interval[0]:.1f}, {100 * self.estimate.interval[1]:.1f}]"
        return text


@dataclass(frozen=True)
class Row:
    """A model's line."""

    labels: tuple[str, ...]
    """One for each of the table's label columns."""
    cells: tuple[Cell | None, ...]
    """One for each of its value columns."""
    extra: tuple[float | None, ...] = ()
    """One for each of its extra columns."""
    block: str = ""
    """Cells are ranked among rows of the same block."""


@dataclass(frozen=True)
class Table:
    """Rows whose cells are compared column by column: the highest is bold, the second underlined."""

    name: str
    """For file names: table1, table2_…."""
    title: str
    labels: tuple[str, ...]
    values: tuple[str, ...]
    rows: tuple[Row, ...]
    extras: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def rank(self, row: Row, column: int) -> int | None:
        """How many numbers of the row's block are higher in a value column, as printed: equal ones count once and are marked alike."""
        shown = lambda row: None if row.cells[column] is None else round(100 * row.cells[column].estimate.mean, 1)
        rivals = {shown(other) for other in self.rows if other.block == row.block} - {None}
        return None if shown(row) is None else sum(rival > shown(row) for rival in rivals)


def to_markdown(table: Table) -> str:
    """The table under its title, with a line of notes: differences in round brackets, intervals in square ones.

    >>> row = Row(("BT", "1"), (Cell(Estimate(0.5, None, 1, "")),))
    >>> print(to_markdown(Table("t", "A title.", ("model", "2k"), ("letters",), (row,))))
    **A title.**
    <BLANKLINE>
    | model | 2k | letters |
    |---|---|---:|
    | BT | 1 | **50.0** |
    <BLANKLINE>
    <sub>Per cent; bold the highest, underlined the second.</sub>
    """
    lines = [_line(table.labels + table.values + table.extras)]
    lines.append("|" + "---|" * len(table.labels) + "---:|" * (len(table.values) + len(table.extras)))
    for row in table.rows:
        cells = [_marked(cell, table.rank(row, column)) for column, cell in enumerate(row.cells)]
        extra = [EMPTY if value is None else f"{value:.3f}" for value in row.extra]
        lines.append(_line([*map(_escaped, row.labels), *cells, *extra]))
    return f"**{table.title}**\n\n" + "\n".join(lines) + f"\n\n<sub>{notes(table)}</sub>"


def to_csv(table: Table) -> str:
    """The same numbers unrounded, shares of 1, a column each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = ("", " difference", " low", " high", " seeds", " interval over")
    writer.writerow([*table.labels, *(name + part for name in table.values for part in parts), *table.extras])
    for row in table.rows:
        fields = [field for cell in row.cells for field in _fields(cell)]
        writer.writerow([*row.labels, *fields, *("" if value is None else value for value in row.extra)])
    return out.getvalue()


def notes(table: Table) -> str:
    """What its cells mean, in a line."""
    cells = [cell for row in table.rows for cell in row.cells if cell is not None]
    said = ["Per cent; bold the highest, underlined the second"]
    if any(cell.difference is not None for cell in cells):
        said.append("(difference to BT, in points)")
    said += [f"[{text}]" for basis, text in WHAT.items() if any(cell.estimate.basis == basis for cell in cells)]
    return "; ".join([*said, *table.notes]) + "."


def _fields(cell: Cell | None) -> list:
    if cell is None:
        return [""] * 6
    low, high = cell.estimate.interval or ("", "")
    difference = "" if cell.difference is None else cell.difference
    return [cell.estimate.mean, difference, low, high, cell.estimate.seeds, cell.estimate.basis]


def _marked(cell: Cell | None, rank: int | None) -> str:
    if cell is None:
        return EMPTY
    number, space, rest = str(cell).partition(" ")
    return {0: f"**{number}**", 1: f"<u>{number}</u>"}.get(rank, number) + space + rest


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
