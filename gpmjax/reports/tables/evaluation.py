"""A summary of `metrics.summarise` as a table for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# A breakdown with more parts than this is cut short; the summary file holds all of them.
MAX_PARTS = 40


def table_console() -> Console:
    """Where tables are printed: in a file or a pipe nothing is gained by folding them at 80 columns."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def summary_table(summary: Mapping[str, Any], *, title: str = "") -> Table:
    """One line for everything, then one per value of each tag."""
    table = Table(title=title or None, title_justify="left", caption_justify="left", caption=_caption(summary))
    table.add_column("comparisons of", overflow="fold")
    for name in ("n", "prompts", "accuracy %", "95 %", "win/tie/loss", "NLL", "Brier", "ECE", "margin", "longer wins"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("everything", *_cells(summary), style="bold")
    for tag, parts in summary["by"].items():
        table.add_section()
        table.add_row(Text(f"by {tag}", style="italic"))
        for value, figures in list(parts.items())[:MAX_PARTS]:
            # As Text: brackets in a value are no markup.
            table.add_row(Text(f"  {value}"), *_cells(figures))
        if len(parts) > MAX_PARTS:
            table.add_row(f"  and {len(parts) - MAX_PARTS} more")
    return table


def _caption(summary: Mapping[str, Any]) -> str:
    measures = " / ".join(summary["longer_wins"])
    count = summary["tied_labels"]
    tied = f"; {count} tied labels (½) are in NLL, Brier and ECE only" if count else ""
    order = _order_caption(summary["order"]) if "order" in summary else ""
    said = f"τ = {summary['tau']:g}; a tie counts one half; 95 %: {over(summary)}; longer wins: accuracy by {measures}"
    return f"{said}{tied}{order}"


def over(figures: Mapping[str, Any]) -> str:
    """What the interval of an accuracy takes as independent.

    >>> over({"interval_over": "prompts", "prompts": 31}), over({"interval_over": "comparisons", "prompts": 1}), over({})
    ('over 31 prompts', 'over comparisons, as there is one prompt', 'over comparisons')
    """
    if figures.get("interval_over") == "prompts":
        return f"over {figures['prompts']} prompts" if figures.get("prompts") else "over prompts"
    return "over comparisons" + (", as there is one prompt" if figures.get("prompts") == 1 else "")


def _order_caption(order: Mapping[str, Any]) -> str:
    """Of a pairwise model, whose scores above are the means over both orders."""
    return (
        f"\nmeans over both orders; the verdict is the same in both for {percent(order['consistent'])} %, the response read first "
        f"wins {percent(order['first_wins'])} %, one order alone: accuracy {percent(order['accuracy_one_order'])} %"
    )


def _cells(figures: Mapping[str, Any]) -> list[str]:
    interval = figures["accuracy_interval"]
    return [
        str(figures["comparisons"]),
        str(figures.get("prompts") or "–"),
        percent(figures["accuracy"]),
        "–" if interval is None else f"{percent(interval[0])}–{percent(interval[1])}",
        f"{figures['wins']}/{figures['ties']}/{figures['losses']}",
        f"{figures['nll']:.4f}",
        f"{figures['brier']:.4f}",
        f"{figures['ece']:.4f}",
        "–" if figures["mean_margin"] is None else f"{figures['mean_margin']:+.4f}",
        " / ".join(percent(baseline["accuracy"]) for baseline in figures["longer_wins"].values()) or "–",
    ]


def percent(share: float | None) -> str:
    """A share in per cent, a dash for none.

    >>> percent(0.75), percent(None)
    ('75.0', '–')
    """
    return "–" if share is None else f"{100 * share:.1f}"
