"""Contributions of 2-d blocks to the scores: s(i ≻ j) = Σ_l c_l, with c_l = λ_l (a_il b_jl − b_il a_jl).

Source: arXiv 2410.02197, equation (4.2); `gpmjax.preference.score.pairwise_scores` computes the sum.
"""

from collections.abc import Sequence

import numpy as np

from gpmjax.evals.diagnostics.records import Labelled, Record, labelled, prompts_of
from gpmjax.evals.metrics import accuracy_figures


def contributions(record: Record) -> np.ndarray | None:
    """c_l of every ordered pair, [k, K, K]; None for a record without blocks (of a reward or a pairwise model).

    >>> contributions({"embedding": [[1.0, 0.0], [0.0, 1.0]], "scale": [3.0]})[0].tolist()
    [[0.0, 3.0], [-3.0, 0.0]]
    """
    embedding = np.array(record.get("embedding") or [[]], np.float64)
    if not embedding.shape[1] or embedding.shape[1] % 2:
        return None
    a, b = embedding[:, 0::2].T, embedding[:, 1::2].T
    parts = a[:, :, None] * b[:, None, :] - b[:, :, None] * a[:, None, :]
    scale = record.get("scale")
    return parts if scale is None else parts * np.array(scale, np.float64)[:, None, None]


def first_block(records: Sequence[Record]) -> int:
    """The number of an embedding's first block: 1, or 0 for a hybrid, whose block 0 is its reward.

    >>> hybrid = {"reward": [1.0, 2.0], "embedding": [[1.0, 1.0], [2.0, 1.0]]}
    >>> first_block([hybrid]), first_block([{"embedding": [[1.0, 1.0]]}])
    (0, 1)
    """
    return 0 if any(record.get("reward") and record.get("embedding") for record in records) else 1


def block_name(number: int) -> str:
    """The name of a block in tables.

    >>> block_name(0), block_name(2)
    ('reward', 'block 2')
    """
    return f"block {number}" if number else "reward"


def decisive_blocks(records: Sequence[Record]) -> dict | None:
    """Each block's contribution over all pairs of responses, its accuracy alone, and the accuracy without it.

    Returns:
      None when no record has blocks, otherwise ``groups``, ``pairs`` (i < j, of a score other than 0), ``opposed`` (the
      share of pairs about which two blocks disagree), ``labelled`` (comparisons with a label that has a side), the
      whole model's ``accuracy`` on them, and ``blocks``, a list of {"block" (from 1; 0 is a hybrid's reward),
        "weight"            Σ|c_l| over pairs, as a share of all blocks',
        "largest"           share of pairs in which |c_l| is the largest,
        "flips"             share of pairs whose verdict reverses, or becomes a tie, when the block is left out,
        "agrees"            share of pairs in which sign(c_l) is the verdict,
        "accuracy"          of sign(c_l) alone on the labels, ties half, with its ``accuracy_interval`` (over prompts),
        "accuracy_without"  of the sum over the other blocks}; the last three are None without labels.

    >>> found = decisive_blocks([{"embedding": [[2.0, 0, 1, 0], [0, 2.0, 0, -1]], "comparisons": [[0, 1, 1.0]]}])
    >>> [(block["largest"], block["flips"], block["accuracy"]) for block in found["blocks"]]
    [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0)]
    """
    held = [(record, parts) for record in records if (parts := contributions(record)) is not None]
    if not held:
        return None
    if len(counts := {len(parts) for _, parts in held}) > 1:
        raise ValueError(f"embedding: {sorted(counts)} blocks in one file, must all have as many")
    upper = [parts[:, *np.triu_indices(parts.shape[1], 1)] for _, parts in held]
    parts = np.concatenate(upper, axis=1)
    score = parts.sum(0)
    parts, score = parts[:, score != 0], score[score != 0]
    known, wanted = _of_labelled(held)
    prompts = prompts_of([record for record, _ in held], wanted)
    return {
        "groups": len(held),
        "pairs": len(score),
        "opposed": _share(np.any(parts > 0, axis=0) & np.any(parts < 0, axis=0)),
        "labelled": int(np.sum(wanted.target != 0.5)),
        **_accuracy(known.sum(0), wanted.target, prompts),
        "blocks": _describe(first_block([record for record, _ in held]), parts, score, known, wanted.target, prompts),
    }


def _describe(
    first: int, parts: np.ndarray, score: np.ndarray, known: np.ndarray, target: np.ndarray, prompts: Sequence[str]
) -> list[dict]:
    size, verdict = np.abs(parts), np.sign(score)
    winner = size.argmax(0)
    lines = []
    for block, part in enumerate(parts):
        # A sum, since a difference would leave rounding errors where the other blocks contribute 0.
        others = np.delete(parts, block, axis=0).sum(0)
        lines.append(
            {
                "block": block + first,
                "weight": float(size[block].sum() / size.sum()) if size.any() else None,
                "largest": _share(winner == block),
                "flips": _share(np.sign(others) != verdict),
                "agrees": _share(np.sign(part) == verdict),
                **_accuracy(known[block], target, prompts),
                "accuracy_without": _accuracy(np.delete(known, block, axis=0).sum(0), target, prompts)["accuracy"],
            }
        )
    return lines


def _of_labelled(held: Sequence[tuple[Record, np.ndarray]]) -> tuple[np.ndarray, Labelled]:
    """Contributions to s(chosen ≻ rejected) of the labelled comparisons, [k, N], and these comparisons."""
    # Zeros stand for the scores, which are not used here and may be missing from a record.
    bare = [
        {"scores": np.zeros(parts.shape[1:]).tolist(), "comparisons": record["comparisons"]} for record, parts in held
    ]
    wanted = labelled(bare)
    places = zip(wanted.record, wanted.chosen, wanted.rejected, strict=True)
    known = [held[r][1][:, chosen, rejected] for r, chosen, rejected in places]
    return np.array(known).reshape(len(known), len(held[0][1])).T, wanted


def _accuracy(score: np.ndarray, target: np.ndarray, prompts: Sequence[str]) -> dict:
    found = accuracy_figures(score, target, prompts)
    return {name: found[name] for name in ("accuracy", "accuracy_interval")}


def _share(condition: np.ndarray) -> float | None:
    return float(condition.mean()) if condition.size else None
