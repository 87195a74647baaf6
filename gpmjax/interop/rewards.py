"""One number for each completion, out of a model that compares.

A general preference model has no reward of a single response: it says how much one is preferred to another. Whoever wants a
number has to say against what, and ``RewardPlan.against`` is that choice. It has no default.

    "group"      The other completions of the same prompt in the same call: ŝ(y_i ≻ π_t) = 1/K Σ_k s(y_i ≻ y_k), equation (5.6)
                 of arXiv 2410.02197. The signal for trainers that sample K completions a prompt (GRPO, RLOO, …), and the only
                 one here that knows of cycles among them. The sum over a group is 0, so a learning curve of its mean says
                 nothing, and numbers of different prompts are not comparable.
    "reference"  One fixed text a prompt, such as a column of the data set: s(y_i ≻ y_ref). Needs no group, and is comparable from
                 call to call; but what beats the reference need not beat another opponent.
    "nothing"    The reward r(y) of a model that has one: Bradley–Terry, or a verifier asked about each response. No other has.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from gpmjax.data.fields import FieldError, kind
from gpmjax.data.groups import Comparison, Group, Message
from gpmjax.judges.judge import Judge, Verdict
from gpmjax.losses.signals import mean_score, mean_win_rate
from gpmjax.models.config import require_one_of

AGAINST = ("group", "reference", "nothing")
UNITS = ("log_odds", "score", "win_rate")


class Completion(NamedTuple):
    """What a policy answered."""

    prompt: tuple[Message, ...]
    text: str
    reference: Any = None
    """Another answer to the prompt; read only where completions are compared with it."""
    where: str = ""
    """Its place in the call, for messages."""


Scoring = Callable[[Sequence[Completion]], np.ndarray]
"""Completions → [N] float64, one number each, in their order. May be called from several threads at once."""


@dataclass(frozen=True)
class RewardPlan:
    """What a number means.

    >>> RewardPlan("group").units
    'log_odds'
    """

    against: str
    units: str = "log_odds"
    """"log_odds": s/τ (the released runs have 2 s/τ); "score": s; "win_rate": σ(s/τ), in (0, 1). Of a group each is the mean
    over its K members, the completion itself included: of probabilities for "win_rate", never re-made from a mean score."""

    def __post_init__(self):
        require_one_of("against", self.against, AGAINST)
        require_one_of("units", self.units, UNITS)
        if self.against == "nothing" and self.units == "win_rate":
            raise ValueError(
                "units is 'win_rate' with against='nothing'; a win needs an opponent: 'group' or 'reference'"
            )


class Rewards:
    """The numbers that a plan asks of a judge; one call at a time reaches the model, whatever the threads."""

    def __init__(self, judge: Judge, plan: RewardPlan):
        self._judge, self._plan, self._lock = judge, plan, threading.Lock()

    def __call__(self, completions: Sequence[Completion]) -> np.ndarray:
        """See `Scoring`. Completions of one prompt form a group wherever they stand; equal ones count as often as they come.

        Raises:
          ValueError: one line naming the completion: it is alone with its prompt, has no reference, cannot be encoded, its score
            is not finite, or the model has no reward of a single response.
        """
        members = self._members(completions)
        groups = [self._group([completions[n] for n in places]) for places in members]
        pairs = "labelled" if self._plan.against == "reference" else "all"
        with self._lock:
            verdicts = list(self._judge(groups, pairs))
        rewards = np.zeros(len(completions))
        for group, places, verdict in zip(groups, members, verdicts, strict=True):
            rewards[places] = self._read(group, verdict, len(places))
        return rewards

    def _members(self, completions: Sequence[Completion]) -> list[list[int]]:
        """The places of each group's completions."""
        found: dict[tuple, list[int]] = {}
        for place, completion in enumerate(completions):
            if self._plan.against == "reference" and not isinstance(completion.reference, str):
                problem = f"must be a text to compare with, is {kind(completion.reference)}"
                raise FieldError(completion.where, "reference", problem)
            key = completion.reference if self._plan.against == "reference" else None
            found.setdefault((completion.prompt, key), []).append(place)
        return list(found.values())

    def _group(self, completions: Sequence[Completion]) -> Group:
        (prompt, _, reference, where), texts = completions[0], tuple(completion.text for completion in completions)
        if self._plan.against == "reference":  # stands last
            comparisons = tuple(Comparison(n, len(texts)) for n in range(len(texts)))
            return Group(prompt, (*texts, reference), comparisons, where=where)
        if self._plan.against == "group" and len(texts) < 2:
            raise ValueError(
                f"{where}: the only completion of its prompt in this call; against='group' compares completions of one prompt "
                f"with each other, so hand over at least 2 together, or compare with a 'reference'"
            )
        return Group(prompt, texts, where=where)

    def _read(self, group: Group, verdict: Verdict, count: int) -> np.ndarray:
        """The numbers of a group's first ``count`` responses, the completions."""
        read = {"group": _against_each_other, "reference": _against_the_last, "nothing": _alone}[self._plan.against]
        numbers = np.asarray(read(verdict, self._plan.units), np.float64)[:count]
        if not np.isfinite(numbers).all():
            raise ValueError(f"{group.where}: a score of the model is not finite")
        # Equal texts have equal numbers. Read twice they differ by rounding, which a trainer that divides by a group's standard
        # deviation would make an advantage of.
        return numbers[[group.responses.index(text) for text in group.responses[:count]]]


def _against_each_other(verdict: Verdict, units: str) -> np.ndarray:
    scores = np.array(verdict.scores, np.float64)
    np.fill_diagonal(scores, 0.0)  # not every judge is asked about a response and itself
    if units == "win_rate":
        return mean_win_rate(scores, verdict.tau)
    return mean_score(scores) / (verdict.tau if units == "log_odds" else 1.0)


def _against_the_last(verdict: Verdict, units: str) -> np.ndarray:
    scores = verdict.scores[:, -1]
    if units == "score":
        return scores
    return scores / verdict.tau if units == "log_odds" else special.expit(scores / verdict.tau)


def _alone(verdict: Verdict, units: str) -> np.ndarray:
    if verdict.reward is None:
        raise ValueError(
            "against='nothing': this model has no reward of a single response, as Bradley–Terry models, verifiers and hybrids have; "
            "compare with the 'group' or with a 'reference'"
        )
    return verdict.reward / verdict.tau if units == "log_odds" else verdict.reward
