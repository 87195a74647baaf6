"""`Judge` compares responses: groups in, a K×K matrix of scores for each of them out.

    judge = open_judge(JudgeConfig("runs/gpm/model"))
    for verdict in judge(groups):
        verdict.scores          # [K, K]: s(i ≻ j)

Every system that compares implements this protocol: general preference models and scalar rewards, which encode each
response once; pairwise models, which read every ordered pair; verifiers that write a rationale first; chat models;
functions. Evaluation, benchmarks, policies' scorers and contests, and the reward server all take any of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from gpmjax.data.groups import Group
from gpmjax.data.questions import prompt_text

Pairs = Literal["labelled", "all"]
"""Which pairs are wanted: those that a group's comparisons name, or every one of its responses."""


class Verdict(NamedTuple):
    """What a judge says of the K responses of one group."""

    scores: np.ndarray
    """[K, K] float64 s(i ≻ j), not divided by τ; NaN where it was not asked. Skew-symmetric but for a pairwise model
    that is not symmetrised."""
    tau: float
    """P(i ≻ j) = σ(s/τ)."""
    tokens: np.ndarray
    """[K] int: tokens of each response."""
    forward_tokens: int
    """That went through the backbone for this group, a shared prompt counted once."""
    truncated: bool = False
    """Whether the prompt or a response was cut to the judge's window."""
    embedding: np.ndarray | None = None
    """[K, 2k], or [K, 1] rewards; a hybrid's are [K, 2 + 2k], (r, 1, c). None where there are none."""
    scale: np.ndarray | None = None
    """[k] gate λ of the prompt, a hybrid's (1, γ λ); None without one."""
    asked: np.ndarray | None = None
    """[K, K] r(i, j) of a pairwise model as it was asked, before any symmetrising; NaN where it was not."""
    reward: np.ndarray | None = None
    """[K] r of models that have a reward of a single response: Bradley–Terry, verifiers, hybrids."""


class Judge(Protocol):
    """A judge compares the responses of groups; a verdict depends on its own group alone, neither on the others nor on
    their order."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that could move a score, as plain JSON: the model by its files, how it is read, window, dtype. Two judges
        of equal identity may continue each other's work."""
        ...

    def __call__(self, groups: Sequence[Group], pairs: Pairs = "labelled") -> Iterator[Verdict]:
        """One verdict a group, in order, handed over as they are ready.

        Raises ValueError, one line naming the group's place in its file, for one that cannot be judged.
        """
        ...


SKEW_TOLERANCE = 1e-3
"""Of the largest score; a bfloat16 model's products are rounded, not wrong."""
SMALLEST_GAP = 1e-5
"""Log-odds: less is not worth a refusal, where all of a prompt's scores are next to 0."""


def skew_symmetric(scores: np.ndarray, tau: float, where: str) -> np.ndarray:
    """Scores [K, K] of every pair, made exactly skew-symmetric.

    A policy trained on a NaN, or on a matrix that is not skew-symmetric, would move towards nothing in particular.

    Raises ValueError, one line that begins with ``where``, for a score that is not finite or a matrix that is not
    skew-symmetric but for rounding.
    """
    if not np.isfinite(scores).all():
        i, j = np.argwhere(~np.isfinite(scores))[0]
        raise ValueError(f"{where}: score of responses {i} and {j} is {scores[i, j]}; it must be finite")
    gap = np.abs(scores + scores.T)
    if gap.max() > max(SKEW_TOLERANCE * np.abs(scores).max(), SMALLEST_GAP * tau):
        i, j = np.unravel_index(gap.argmax(), gap.shape)
        raise ValueError(
            f"{where}: s({i} ≻ {j}) = {scores[i, j]:.6g} and s({j} ≻ {i}) = {scores[j, i]:.6g}; "
            f"scores must be skew-symmetric, one the negative of the other"
        )
    return (scores - scores.T) / 2


def judge_name(judge: Judge) -> str:
    """What a judge is called in messages: its model, or its function."""
    return str(judge.identity.get("model") or judge.identity.get("function"))


def group_record(group: Group, verdict: Verdict) -> dict[str, Any]:
    """A verdict beside what is known of its group, JSON-ready: a line of FILE.groups.jsonl.

    ``source`` (file and line), ``scores`` [K, K] (null where not asked), ``tau``, ``comparisons`` [[chosen, rejected,
    target]], ``tokens`` and ``characters`` [K], ``forward_tokens``, ``truncated``, ``tags``, ``texts`` {prompt,
    responses}; ``embedding``, ``scale``, ``reward`` [K] and ``asked`` [K, K] where there are.
    """
    bad = np.isinf(verdict.scores)
    if bad.any() or not np.isfinite(verdict.scores[_labelled(group, len(group.responses))]).all():
        raise ValueError(f"{group.where}: a score of the model is not finite")
    record = {
        "source": group.where,
        "scores": _lists(verdict.scores),
        "tau": float(verdict.tau),
        "comparisons": [[c.chosen, c.rejected, c.target] for c in group.comparisons],
        "tokens": [int(n) for n in verdict.tokens],
        "characters": [len(text) for text in group.responses],
        "forward_tokens": int(verdict.forward_tokens),
        "truncated": bool(verdict.truncated),
        "tags": dict(group.tags),
        "texts": {"prompt": prompt_text(group.prompt), "responses": list(group.responses)},
    }
    if verdict.embedding is not None:
        record["embedding"] = np.asarray(verdict.embedding, np.float64).tolist()
    if verdict.scale is not None:
        record["scale"] = np.asarray(verdict.scale, np.float64).tolist()
    if verdict.reward is not None:
        record["reward"] = np.asarray(verdict.reward, np.float64).tolist()
    if verdict.asked is not None:
        record["asked"] = _lists(verdict.asked)
    return record


def _lists(scores: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(score) else float(score) for score in row] for row in scores]


def _labelled(group: Group, count: int) -> np.ndarray:
    labelled = np.zeros((count, count), bool)
    for comparison in group.comparisons:
        labelled[comparison.chosen, comparison.rejected] = True
    return labelled


def record_scores(record: Mapping[str, Any]) -> np.ndarray:
    """[K, K] float64 scores of a record, NaN where not asked.

    >>> record_scores({"scores": [[0.0, None], [1.0, 0.0]]}).tolist()
    [[0.0, nan], [1.0, 0.0]]
    """
    return np.array([[np.nan if s is None else s for s in row] for row in record["scores"]], np.float64)
