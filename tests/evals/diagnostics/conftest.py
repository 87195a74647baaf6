"""Handmade records in a judge's format."""

import numpy as np
import pytest


def build(scores, comparisons=(), **fields):
    """A record of any K×K scores (NaN: not judged)."""
    scores = np.asarray(scores, float)
    return {
        "source": "f.jsonl:1",
        "scores": [[None if np.isnan(s) else float(s) for s in row] for row in scores],
        "tau": 1.0,
        "comparisons": [list(c) if len(c) == 3 else [*c, 1.0] for c in comparisons],
        "tokens": [5] * len(scores),
        "characters": [20] * len(scores),
        "forward_tokens": 100,
        "truncated": False,
        "tags": {},
        **fields,
    }


def embed(embedding, scale=None, comparisons=(), **fields):
    """A record of a general preference model, whose scores follow from its embedding [K, 2k] and gate [k]."""
    v = np.asarray(embedding, float)
    a, b = v[:, 0::2], v[:, 1::2]
    gate = np.ones(a.shape[1]) if scale is None else np.asarray(scale, float)
    area = np.einsum("l,il,jl->ij", gate, a, b)
    known = {"embedding": v.tolist()} | ({} if scale is None else {"scale": gate.tolist()})
    return build(area - area.T, comparisons, **(known | fields))


@pytest.fixture(scope="session")
def make_record():
    return build


@pytest.fixture(scope="session")
def make_gpm_record():
    return embed


@pytest.fixture(scope="session")
def relabelled():
    """Function that puts a record's responses in another order."""

    def relabel(record, order):
        place = {old: new for new, old in enumerate(order)}

        def pick(values):
            return [values[i] for i in order]

        moved = record | {name: pick(record[name]) for name in ("tokens", "characters", "embedding") if name in record}
        if "ratings" in record:
            moved |= {"ratings": {aspect: pick(values) for aspect, values in record["ratings"].items()}}
        scores = [pick(row) for row in pick(record["scores"])]
        return moved | {"scores": scores, "comparisons": [[place[i], place[j], t] for i, j, t in record["comparisons"]]}

    return relabel
