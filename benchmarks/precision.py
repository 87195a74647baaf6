"""How much scores depend on precision (bfloat16 or float32) and on the rest of the batch.

    make demo && python benchmarks/precision.py --model=runs/demo/letters/gpm/model

Each prompt of the demo's letters is scored with all letters as its responses, and with its own responses only; one
prompt per batch, and all prompts in one batch. Differences are in units of the largest float32 score.
"""

import itertools

import numpy as np
from absl import app, flags

from gpmjax.config.judge import ScorerConfig
from gpmjax.data.group_files import read_groups
from gpmjax.data.grouping import merge_groups
from gpmjax.data.groups import Group
from gpmjax.judges.open import open_scorer
from gpmjax.models.config import DTYPES
from gpmjax.sharding import make_mesh

MODEL = flags.DEFINE_string("model", "runs/demo/letters/gpm/model", "A preference model.")
DATA = flags.DEFINE_string(
    "data", "builtin:letters", "The data whose prompts are scored, each with the responses to all prompts."
)


def scored(dtype: str) -> list[np.ndarray]:
    """Scores [N, K, K] in four settings: one prompt per batch or all; all responses or the prompt's own (others
    NaN)."""
    groups = merge_groups(read_groups(DATA.value))
    everything = tuple(sorted({response for group in groups for response in group.responses}))
    whole = [Group(group.prompt, everything, where=group.where) for group in groups]
    places = [[everything.index(response) for response in group.responses] for group in groups]
    found = []
    for rows in (1, len(groups)):
        scorer = open_scorer(ScorerConfig(model=MODEL.value, dtype=dtype, rows=rows), make_mesh())
        found.append(np.stack([verdict.scores for verdict in scorer(whole, "all")]))
        own = np.full_like(found[-1], np.nan)
        for n, group in enumerate(groups):
            (verdict,) = scorer([group], "all")
            own[n][np.ix_(places[n], places[n])] = verdict.scores
        found.append(own)
    return found


def main(_: list[str]) -> None:
    scores = {dtype: scored(dtype) for dtype in DTYPES}
    exact = scores["float32"][0]
    largest = np.abs(exact).max()
    pair = ~np.eye(exact.shape[1], dtype=bool)
    print(f"{exact.shape[0]} prompts, {exact.shape[1]} responses, largest |s| = {largest:.4g}")
    for dtype, versions in scores.items():
        apart = max(np.nanmax(np.abs(a - b)) for a, b in itertools.combinations(versions, 2))
        off = np.abs(versions[0] - exact).max()
        flipped = np.mean((np.sign(versions[0]) != np.sign(exact))[:, pair])
        print(
            f"{dtype:>8}: between settings {apart / largest:.2g}, from float32 {off / largest:.2g}, "
            f"signs flipped {flipped:.2%}"
        )


if __name__ == "__main__":
    app.run(main)
