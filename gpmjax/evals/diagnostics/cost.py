"""Cost of comparing K responses, in tokens through the backbone, measured and by formula.

    shared      P + Σ R          each response once after one prompt: Bradley–Terry and GPM in packed rows
    separate    K P + Σ R        the same without sharing the prompt
    pairwise    K(K−1) P + 2(K−1) Σ R = K(K−1)(P + 2 R̄)      a pass over (x, y_i, y_j) for every ordered pair

P is the prompt's tokens, R each response's, and R̄ their mean. Tokens of templates are left out. A judge may take more,
where a group is read in pieces that each hold the prompt, or less, where its sequences share a prefix.
"""

from collections.abc import Sequence

import numpy as np

from gpmjax.evals.diagnostics.records import Record

SIZES = (2, 4, 8, 16, 32, 64)


def tokens_for(prompt: float, responses: Sequence[float]) -> dict[str, float]:
    """Forward tokens of each method for all K×K scores of one group.

    >>> tokens_for(100, [20, 30, 10])
    {'shared': 160, 'separate': 360, 'pairwise': 840}
    """
    count, total = len(responses), sum(responses)
    return {
        "shared": prompt + total,
        "separate": count * prompt + total,
        "pairwise": count * (count - 1) * prompt + 2 * (count - 1) * total,
    }


def forward_cost(records: Sequence[Record]) -> dict:
    """Tokens that the judge put through its backbone, beside those of each method for the same groups.

    Returns:
      ``groups``, ``responses``, ``pairs`` (unordered), ``forward_tokens`` in total, ``per_group``, ``per_response`` and
      ``per_pair``; ``formula``, the totals of `tokens_for` over the ``known`` groups whose records hold
      ``prompt_tokens``, and ``by_size``, a list of {"K", "shared", "separate", "pairwise"} for K responses of their
      mean lengths. The last two are None where no group is known.

    >>> record = {"forward_tokens": 160, "tokens": [20, 30, 10], "prompt_tokens": 100}
    >>> found = forward_cost([record])
    >>> found["per_response"], found["formula"]["shared"], found["by_size"][0]["pairwise"]
    (53.33..., 160, 280)
    """
    sizes = np.array([len(record["tokens"]) for record in records])
    measured = sum(record["forward_tokens"] for record in records)
    counts = {"group": len(records), "response": int(sizes.sum()), "pair": int(np.sum(sizes * (sizes - 1) // 2))}
    known = [record for record in records if record.get("prompt_tokens") is not None]
    return {
        **{f"{unit}s": count for unit, count in counts.items()},
        "forward_tokens": measured,
        **{f"per_{unit}": measured / count if count else None for unit, count in counts.items()},
        "known": len(known),
        **_formula(known),
    }


def _formula(known: Sequence[Record]) -> dict:
    if not known:
        return {"formula": None, "by_size": None}
    each = [tokens_for(record["prompt_tokens"], record["tokens"]) for record in known]
    prompt = round(float(np.mean([record["prompt_tokens"] for record in known])))
    response = round(float(np.mean([tokens for record in known for tokens in record["tokens"]])))
    return {
        "formula": {way: sum(line[way] for line in each) for way in each[0]},
        "by_size": [{"K": size, **tokens_for(prompt, [response] * size)} for size in SIZES],
    }
