"""Terminal table of an evaluation's summary (`metrics.comparison_figures`)."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpmjax.reports.numbers import EMPTY, interval_unit, percent, percent_range, signed

# A breakdown shows this many parts. The summary file holds all of them.
MAX_PARTS = 40


def table_console() -> Console:
    """The console that tables are printed on. A file or a pipe gets 160 columns, where folding at 80 gains nothing."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def summary_table(summary: Mapping[str, Any], *, title: str = "") -> Table:
    """One line for all comparisons, then one per value of each tag."""
    table = Table(title=title or None, title_justify="left", caption_justify="left", caption=_caption(summary))
    table.add_column("comparisons of", overflow="fold")
    for name in ("n", "prompts", "accuracy %", "95 %", "win/tie/loss", "NLL", "Brier", "ECE", "margin", "longer wins"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("everything", *_cells(summary), style="bold")
    for tag, parts in summary["by"].items():
        table.add_section()
        table.add_row(Text(f"by {tag}", style="italic"))
        for value, figures in list(parts.items())[:MAX_PARTS]:
            # Text: rich would read brackets in a value as markup.
            table.add_row(Text(f"  {value}"), *_cells(figures))
        if len(parts) > MAX_PARTS:
            table.add_row(f"  and {len(parts) - MAX_PARTS} more")
    return table


def _caption(summary: Mapping[str, Any]) -> str:
    measures = " / ".join(summary["longer_wins"])
    count = summary["tied_labels"]
    tied = f"; {count} tied labels (½) are in NLL, Brier and ECE only" if count else ""
    order = _order_caption(summary["order"]) if "order" in summary else ""
    basis = f"τ = {summary['tau']:g}; a tie counts one half; 95 %: {interval_unit(summary)}"
    return f"{basis}; longer wins: accuracy by {measures}{tied}{order}"


def _order_caption(order: Mapping[str, Any]) -> str:
    """The caption of a pairwise model, whose scores in the table are means over both orders."""
    return (
        f"\nmeans over both orders; the verdict is the same in both for {percent(order['consistent'])} %, "
        f"the response read first wins {percent(order['first_wins'])} %, "
        f"one order alone: accuracy {percent(order['accuracy_one_order'])} %"
    )


def _cells(figures: Mapping[str, Any]) -> list[str]:
    return [
        str(figures["comparisons"]),
        str(figures.get("prompts") or EMPTY),
        percent(figures["accuracy"]),
        percent_range(figures["accuracy_interval"]),
        f"{figures['wins']}/{figures['ties']}/{figures['losses']}",
        f"{figures['nll']:.4f}",
        f"{figures['brier']:.4f}",
        f"{figures['ece']:.4f}",
        signed(figures["mean_margin"], 4),
        " / ".join(percent(baseline["accuracy"]) for baseline in figures["longer_wins"].values()) or EMPTY,
    ]
