"""95 % intervals over prompts: of an accuracy, of a mean, and of the difference of two models.

Comparisons that share a prompt share its responses, so they are not independent, and an interval that counts comparisons is too
narrow. What is drawn when data are collected is a prompt with all of its comparisons. So the variance of a mean is that of a ratio
of sums over prompts (cluster-robust),

    V = G/(G − 1) Σ_g (Σ_{i in g} (x_i − x̄))² / N²,    G prompts, N comparisons,

and the quantile is Student's with G − 1 degrees of freedom, which matters where prompts are few.
Source: Liang and Zeger 1986, doi:10.1093/biomet/73.1.13; of shares: Korn and Graubard 1998, Survey Methodology 24(2).

    share_interval([1, 1, 0.5, 0], prompts=["a", "a", "b", "c"])       an accuracy
    mean_interval(nll, prompts)                                        a negative log-likelihood
    mean_interval(nll_hybrid - nll_bt, prompts)                        two models on the same comparisons
"""

import hashlib
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from gpmjax.data.groups import Group

CONFIDENCE_LEVEL = 0.95
Over = Literal["prompts", "comparisons"]
GROUP_TAG = "group"


class Interval(NamedTuple):
    """Where a figure lies with 95 % confidence."""

    low: float
    high: float
    over: Over
    """What was taken as independent: "comparisons" only where there is a single prompt, or where prompts are not known."""
    prompts: int
    """How many there are."""

    @property
    def ends(self) -> list[float]:
        """[low, high]."""
        return [self.low, self.high]


def prompt_name(group: Group) -> str:
    """What a group's comparisons share: its tag ``group``, such as the side of a debate, otherwise its prompt (a short digest)."""
    named = group.tags.get(GROUP_TAG)
    return (
        str(named)
        if named is not None
        else hashlib.sha256(repr(group.prompt).encode(errors="surrogatepass")).hexdigest()[:16]
    )


def wilson_interval(
    successes: float, trials: float, level: float = CONFIDENCE_LEVEL, *, quantile: float | None = None
) -> tuple[float, float]:
    """Wilson's score interval for a proportion, (p̂ + z²/2n ± z √(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n).

    ``successes`` may be fractional (a tie is half a success), which makes the interval a little too wide. Trials are taken as
    independent; comparisons that share a prompt are not: see `share_interval`. ``quantile`` takes the place of the normal z.
    Source: Wilson 1927, doi:10.2307/2276774.

    >>> low, high = wilson_interval(8, 10)
    >>> print(f"{low:.3f} {high:.3f}")
    0.490 0.943
    """
    if trials <= 0:
        raise ValueError(f"trials: {trials}, needs at least 1")
    z = float(special.ndtri(0.5 + level / 2)) if quantile is None else quantile
    proportion = successes / trials
    centre = proportion + z**2 / (2 * trials)
    half = z * np.sqrt(proportion * (1 - proportion) / trials + z**2 / (4 * trials**2))
    shrink = 1 + z**2 / trials
    return max(0.0, float((centre - half) / shrink)), min(1.0, float((centre + half) / shrink))


def share_interval(
    shares: Sequence[float] | np.ndarray, prompts: Sequence[Hashable] | None = None, level: float = CONFIDENCE_LEVEL
) -> Interval:
    """Interval of the mean of N shares in [0, 1], such as 1 for a comparison that a model is right about, ½ for a tie, 0 otherwise.

    Wilson's score interval, which stays in [0, 1] and is not [1, 1] when all is right, of an *effective* number of comparisons:
    n = p(1 − p)/V, at most N. Where fewer than two prompts hold a share of 1, or fewer than two one below 1, nothing is known of
    how these cluster, and each prompt counts as one comparison: n = G. Where no prompt has two comparisons n = N, which is
    Wilson's own interval.

    Args:
      shares: [N].
      prompts: [N] the prompt of each, anything that can be hashed; None: not known.
    Raises:
      ValueError: no share, or columns of unequal length.

    >>> found = share_interval([1.0] * 8 + [0.0] * 2, range(10))  # Wilson's, of 8 in 10
    >>> print(f"{found.low:.3f} {found.high:.3f} over {found.prompts} {found.over}")
    0.490 0.943 over 10 prompts
    >>> found = share_interval([1.0] * 8 + [0.0] * 2, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])  # right or wrong together
    >>> print(f"{found.low:.3f} {found.high:.3f} over {found.prompts} {found.over}")
    0.257 0.979 over 5 prompts
    """
    shares = np.asarray(shares, np.float64)
    sums, counts = _by_prompt(shares, prompts)
    mean, size, trials, z = float(shares.mean()), len(shares), float(len(shares)), None
    single = len(counts) < 2
    if not single and counts.max() > 1:
        z = float(special.stdtrit(len(counts) - 1, 0.5 + level / 2))
        if min(np.sum(sums > 0), np.sum(sums < counts)) < 2:
            trials = float(len(counts))
        else:
            variance = _variance(sums, counts, mean)
            trials = min(size, mean * (1 - mean) / variance) if variance else size
    low, high = wilson_interval(mean * trials, trials, level, quantile=z)
    return Interval(low, high, "comparisons" if single else "prompts", len(counts))


def mean_interval(
    values: Sequence[float] | np.ndarray, prompts: Sequence[Hashable] | None = None, level: float = CONFIDENCE_LEVEL
) -> Interval | None:
    """Interval of the mean of N values: x̄ ± t √V. None for a single value.

    Of the differences between two models on the same comparisons it is the paired interval.

    Args:
      values: [N].
      prompts: [N] the prompt of each; None: not known.
    Raises:
      ValueError: no value, or columns of unequal length.

    >>> found = mean_interval([1.0, 3.0, 2.0, 2.0], ["a", "a", "b", "b"])  # both prompts have the same mean
    >>> found.low, found.high, found.over
    (2.0, 2.0, 'prompts')
    """
    values = np.asarray(values, np.float64)
    sums, counts = _by_prompt(values, prompts)
    prompt_count = len(counts)
    if single := prompt_count < 2:
        sums, counts = values, np.ones(len(values))
    if len(sums) < 2:
        return None
    mean = float(values.mean())
    half = float(special.stdtrit(len(sums) - 1, 0.5 + level / 2) * np.sqrt(_variance(sums, counts, mean)))
    return Interval(mean - half, mean + half, "comparisons" if single else "prompts", prompt_count)


def _by_prompt(values: np.ndarray, prompts: Sequence[Hashable] | None) -> tuple[np.ndarray, np.ndarray]:
    """[G] sums and counts; one prompt for all where none is known, so that nobody takes comparisons for prompts."""
    if not len(values):
        raise ValueError("there is no comparison, an interval needs at least one")
    if prompts is None:
        return values.sum(keepdims=True), np.array([float(len(values))])
    if len(prompts) != len(values):
        raise ValueError(f"prompts: {len(prompts)} entries for {len(values)} comparisons")
    number: dict[Hashable, int] = {}
    place = np.array([number.setdefault(prompt, len(number)) for prompt in prompts])
    return np.bincount(place, values), np.bincount(place).astype(np.float64)


def _variance(sums: np.ndarray, counts: np.ndarray, mean: float) -> float:
    groups = len(counts)
    return float(groups / (groups - 1) * np.sum((sums - mean * counts) ** 2) / counts.sum() ** 2)
