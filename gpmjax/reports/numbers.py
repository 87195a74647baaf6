"""Numbers as text, written alike in terminal tables, in paper tables and on the page. A missing number is a dash."""

from collections.abc import Mapping, Sequence
from typing import Any

EMPTY = "–"


def percent(share: float | None) -> str:
    """A share of 1 in per cent, without the sign.

    >>> percent(0.745), percent(None)
    ('74.5', '–')
    """
    return decimals(None if share is None else 100 * share, 1)


def percent_range(interval: Sequence[float] | None) -> str:
    """An interval of shares in per cent.

    >>> percent_range([0.7, 0.79]), percent_range(None)
    ('70.0–79.0', '–')
    """
    return EMPTY if interval is None else EMPTY.join(map(percent, interval))


def decimals(value: float | None, places: int = 3) -> str:
    """A number with so many decimal places.

    >>> decimals(0.44412), decimals(-2.5, 1), decimals(None)
    ('0.444', '−2.5', '–')
    """
    return EMPTY if value is None else f"{value:.{places}f}".replace("-", "−")


def decimal_range(interval: Sequence[float] | None, places: int = 3) -> str:
    """An interval whose ends may be negative.

    >>> decimal_range([-0.25, 0.5]), decimal_range(None)
    ('−0.250 to 0.500', '–')
    """
    return EMPTY if interval is None else " to ".join(decimals(end, places) for end in interval)


def thousands(value: float | None) -> str:
    """A count with its thousands separated, or four figures of a fraction.

    >>> thousands(12345), thousands(18.10485), thousands(None)
    ('12,345', '18.1', '–')
    """
    return EMPTY if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def signed(value: float | None, places: int) -> str:
    """A number with its sign.

    >>> signed(-0.5, 2), signed(61.78, 1), signed(None, 1)
    ('−0.50', '+61.8', '–')
    """
    return EMPTY if value is None else f"{value:+.{places}f}".replace("-", "−")


def interval_unit(figures: Mapping[str, Any]) -> str:
    """The unit that an accuracy's interval takes as independent.

    >>> interval_unit({"interval_over": "prompts", "prompts": 31}), interval_unit({})
    ('over 31 prompts', 'over comparisons')
    >>> interval_unit({"interval_over": "comparisons", "prompts": 1})
    'over comparisons, as there is one prompt'
    """
    if figures.get("interval_over") == "prompts":
        return f"over {figures['prompts']} prompts" if figures.get("prompts") else "over prompts"
    return "over comparisons" + (", as there is one prompt" if figures.get("prompts") == 1 else "")
