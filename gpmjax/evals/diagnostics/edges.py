"""Which block decides which edge of a cycle, for cycles whose edges belong to rated aspects.

Cycles made of ratings (`gpmjax.data.aspects`) have the tag ``config`` "a,b,c" and follow that order: the response rated
best on a beats the one rated best on b, that one beats the one rated best on c, and so on round the cycle. The winner
of edge n is rated best on the n-th aspect, so a block that has learnt an aspect is right about its edges. Such cycles
are in the labels by construction. `vote_noise` therefore finds them (p is small), which does not show how often
people's preferences are cyclic.
"""

from collections.abc import Sequence

from gpmjax.evals.diagnostics.blocks import decisive_blocks
from gpmjax.evals.diagnostics.records import Record


def edge_aspects(record: Record) -> list[str] | None:
    """The aspect of each comparison; None when the comparisons are not cycles in the order of the tag ``config``.

    >>> edge_aspects({"tags": {"config": "a,b,c"}, "comparisons": [[0, 1, 1.0], [1, 2, 1.0], [2, 0, 1.0]]})
    ['a', 'b', 'c']
    """
    names = str(record["tags"].get("config", "")).split(",")
    comparisons, size = record["comparisons"], len(names)
    if size < 3 or not comparisons or len(comparisons) % size:
        return None
    for n, (_, rejected, _) in enumerate(comparisons):
        following = n + 1 if (n + 1) % size else n + 1 - size
        if comparisons[following][0] != rejected:
            return None
    return names * (len(comparisons) // size)


def edge_decisions(records: Sequence[Record]) -> dict | None:
    """Accuracy of the model and of each of its blocks on the edges of each aspect.

    Returns:
      None when no record has both such cycles and blocks, otherwise aspect → {"comparisons", "accuracy" of the model,
      "blocks": [accuracy of each block alone]}. An edge's winner was rated best on its aspect, its loser on the next
      one.

    >>> v = [[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]
    >>> cycle = {"tags": {"config": "a,b,c"}, "comparisons": [[0, 1, 1.0], [1, 2, 1.0], [2, 0, 1.0]], "embedding": v}
    >>> edge_decisions([cycle])["b"]
    {'comparisons': 1, 'accuracy': 1.0, 'blocks': [1.0]}
    """
    edges: dict[str, list[Record]] = {}
    for record in records:
        names = edge_aspects(record) or []
        for aspect in dict.fromkeys(names):
            own = [c for c, name in zip(record["comparisons"], names, strict=True) if name == aspect]
            edges.setdefault(aspect, []).append({**record, "comparisons": own})
    found = {aspect: decisive_blocks(own) for aspect, own in edges.items()}
    return {
        aspect: {
            "comparisons": figures["labelled"],
            "accuracy": figures["accuracy"],
            "blocks": [block["accuracy"] for block in figures["blocks"]],
        }
        for aspect, figures in found.items()
        if figures is not None
    } or None
