"""One number for each completion, from a model that compares.

A general preference model has no reward of a single response: it scores how much one response is preferred to another.
A reward therefore needs an opponent, which ``RewardPlan.against`` names. It has no default.

    "group"      The opponents are the other completions of the same prompt in the same call: ŝ(y_i ≻ π_t) =
                 1/K Σ_k s(y_i ≻ y_k), equation (5.6) of arXiv 2410.02197. For trainers that sample K completions per
                 prompt (GRPO, RLOO, …). Only this choice sees cycles among the completions. Rewards of a group sum to
                 0, so their mean is no learning curve, and rewards of different prompts are not comparable.
    "reference"  The opponent is one fixed text per prompt, such as a column of the data set: s(y_i ≻ y_ref). It needs
    no
                 group and is comparable between calls; but a response that beats the reference may lose to others.
    "nothing"    The reward r(y) of a model that has one: Bradley–Terry, or a verifier of single responses.
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
    """A policy's answer to a prompt."""

    prompt: tuple[Message, ...]
    text: str
    reference: Any = None
    """Another answer to the prompt; read only with ``against="reference"``."""
    where: str = ""
    """The completion's place in the call, for error messages."""


Scoring = Callable[[Sequence[Completion]], np.ndarray]
"""Maps completions to [N] float64, one number each, in their order. It may be called from several threads at once."""


@dataclass(frozen=True)
class RewardPlan:
    """The definition of a reward.

    >>> RewardPlan("group").units
    'log_odds'
    """

    against: str
    units: str = "log_odds"
    """"log_odds": s/τ (the released runs use 2 s/τ); "score": s; "win_rate": σ(s/τ), in (0, 1). With
    ``against="group"`` each is the mean over the group's K members, including the completion itself. "win_rate"
    averages probabilities."""

    def __post_init__(self):
        require_one_of("against", self.against, AGAINST)
        require_one_of("units", self.units, UNITS)
        if self.against == "nothing" and self.units == "win_rate":
            raise ValueError(
                "units is 'win_rate' with against='nothing'; a win needs an opponent: 'group' or 'reference'"
            )


class Rewards:
    """A `Scoring` that computes a plan's rewards with a judge. A lock lets one call at a time reach the model."""

    def __init__(self, judge: Judge, plan: RewardPlan):
        self._judge, self._plan, self._lock = judge, plan, threading.Lock()

    def __call__(self, completions: Sequence[Completion]) -> np.ndarray:
        """See `Scoring`. All completions of one prompt form a group, in any order; duplicates count each time.

        Raises:
          ValueError: one line that names the completion: it is the only one of its prompt, has no reference, cannot be
            encoded, or has a score that is not finite; or the model has no reward of a single response.
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
        """The indices of each group's completions."""
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
        if self._plan.against == "reference":  # the reference is the last response
            comparisons = tuple(Comparison(n, len(texts)) for n in range(len(texts)))
            return Group(prompt, (*texts, reference), comparisons, where=where)
        if self._plan.against == "group" and len(texts) < 2:
            raise ValueError(
                f"{where}: the only completion of its prompt in this call; against='group' compares completions of one "
                f"prompt with each other, so pass at least 2 together, or compare with a 'reference'"
            )
        return Group(prompt, texts, where=where)

    def _read(self, group: Group, verdict: Verdict, count: int) -> np.ndarray:
        """The rewards of a group's first ``count`` responses, which are the completions."""
        read = {"group": _against_each_other, "reference": _against_the_last, "nothing": _alone}[self._plan.against]
        numbers = np.asarray(read(verdict, self._plan.units), np.float64)[:count]
        if not np.isfinite(numbers).all():
            raise ValueError(f"{group.where}: a score of the model is not finite")
        # Equal texts get equal rewards. Computed twice they differ by rounding, and a trainer that divides by a group's
        # standard deviation would turn that into an advantage.
        return numbers[[group.responses.index(text) for text in group.responses[:count]]]


def _against_each_other(verdict: Verdict, units: str) -> np.ndarray:
    scores = np.array(verdict.scores, np.float64)
    np.fill_diagonal(scores, 0.0)  # some judges leave the diagonal NaN
    if units == "win_rate":
        return np.asarray(mean_win_rate(scores, verdict.tau))
    return np.asarray(mean_score(scores)) / (verdict.tau if units == "log_odds" else 1.0)


def _against_the_last(verdict: Verdict, units: str) -> np.ndarray:
    scores = verdict.scores[:, -1]
    if units == "score":
        return scores
    return scores / verdict.tau if units == "log_odds" else special.expit(scores / verdict.tau)


def _alone(verdict: Verdict, units: str) -> np.ndarray:
    if verdict.reward is None:
        raise ValueError(
            "against='nothing': this model has no reward of a single response, as Bradley–Terry models, verifiers and "
            "hybrids have; compare with the 'group' or with a 'reference'"
        )
    return verdict.reward / verdict.tau if units == "log_odds" else verdict.reward
