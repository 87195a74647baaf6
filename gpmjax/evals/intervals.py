"""95 % intervals of accuracies, means, differences of two models, and any other figure.

Comparisons that share a prompt share its responses, so they are not independent. An interval that treats them as
independent is too narrow. The independent unit is the prompt with all of its comparisons, so the variance of a mean is
that of a ratio of sums over prompts (cluster-robust),

    V = G/(G − 1) Σ_g (Σ_{i in g} (x_i − x̄))² / N²,    G prompts, N comparisons,

and the quantile is Student's with G − 1 degrees of freedom, which matters where prompts are few.
Source: Liang and Zeger 1986, doi:10.1093/biomet/73.1.13; for shares: Korn and Graubard 1998, Survey Methodology 24(2).

    share_interval([1, 1, 0.5, 0], prompts=["a", "a", "b", "c"])       an accuracy
    mean_interval(nll, prompts)                                        a negative log-likelihood
    mean_interval(nll_hybrid - nll_bt, prompts)                        two models on the same comparisons
    fraction_interval(preferences)                                     a win rate; every row is independent
    bootstrap_interval([sums, counts], statistic)                      any other figure of independent rows

Bootstraps are percentile bootstraps (scipy.stats.bootstrap) with a fixed seed, so a figure is the same every time.
Source: Efron 1979, doi:10.1214/aos/1176344552.
"""

import hashlib
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import special

from gpmjax.data.groups import Group

CONFIDENCE_LEVEL = 0.95
Over = Literal["prompts", "comparisons"]
GROUP_TAG = "group"
RESAMPLES = 1000
GROUP_RESAMPLES = 2000
MAX_DRAWN = 4_000_000
"""Numbers that a bootstrap holds in memory at a time."""


class Interval(NamedTuple):
    """A 95 % interval, and the unit that it takes as independent."""

    low: float
    high: float
    over: Over
    """The independent unit. It is "comparisons" only where there is a single prompt, or where prompts are not known."""
    prompts: int
    """Number of prompts."""

    @property
    def ends(self) -> list[float]:
        """[low, high]."""
        return [self.low, self.high]


def prompt_name(group: Group) -> str:
    """The independent unit of a group: its tag ``group`` (such as a debate's side), else a digest of its prompt."""
    tag = group.tags.get(GROUP_TAG)
    if tag is not None:
        return str(tag)
    return hashlib.sha256(repr(group.prompt).encode(errors="surrogatepass")).hexdigest()[:16]


def wilson_interval(
    successes: float, trials: float, level: float = CONFIDENCE_LEVEL, *, quantile: float | None = None
) -> tuple[float, float]:
    """Wilson's score interval for a proportion, (p̂ + z²/2n ± z √(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n).

    ``successes`` may be fractional (a tie is half a success), which makes the interval a little too wide. Trials are
    taken as independent. For comparisons that share a prompt use `share_interval`. ``quantile`` replaces the normal z.
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
    """Interval of the mean of N shares in [0, 1]: 1 for a comparison that the model gets right, ½ for a tie, else 0.

    It is Wilson's score interval for an *effective* number of comparisons, n = p(1 − p)/V, at most N. It stays within
    [0, 1], and is not [1, 1] when every comparison is right. Clustering cannot be estimated where fewer than two
    prompts hold a share above 0, or fewer than two hold one below 1; then each prompt counts as one comparison, n = G.
    Where no prompt has two comparisons, n = N, which is Wilson's own interval.

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


def fraction_interval(fractions: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Wilson's interval for the mean of N independent fractions in [0, 1], such as preferences of a judge.

    A proportion p of N yes-or-no answers varies by p(1−p). Fractions of the same mean vary by s² ≤ p(1−p), so they are
    worth N p(1−p)/s² answers (the effective sample size of Kish 1965, "Survey Sampling", §8.2). On zeros and ones it is
    Wilson's interval, which does not collapse when all are 1.

    >>> [round(end, 3) for end in fraction_interval([1.0] * 8 + [0.0] * 2)]  # 8 of 10
    [0.49, 0.943]
    >>> fraction_interval([0.5] * 10)
    (0.5, 0.5)
    """
    fractions = np.asarray(fractions, np.float64)
    mean, variance = float(fractions.mean()), float(fractions.var())
    if variance == 0 and 0 < mean < 1:
        return mean, mean
    trials = len(fractions) * (mean * (1 - mean) / variance if variance else 1.0)
    return wilson_interval(mean * trials, trials)


def mean_interval(
    values: Sequence[float] | np.ndarray, prompts: Sequence[Hashable] | None = None, level: float = CONFIDENCE_LEVEL
) -> Interval | None:
    """Interval of the mean of N values, x̄ ± t √V; None for a single value.

    For the differences between two models on the same comparisons it is the paired interval.

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


def mean_figures(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """``mean`` of independent values, its ``standard_error`` s/√N and normal ``interval``; both None for one value.

    >>> mean_figures([1.0, 3.0])["standard_error"]
    1.0
    """
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return {"mean": mean, "standard_error": None, "interval": None}
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    half = float(special.ndtri(0.5 + CONFIDENCE_LEVEL / 2)) * error
    return {"mean": mean, "standard_error": error, "interval": [mean - half, mean + half]}


def bootstrap_interval(
    columns: Sequence[np.ndarray],
    statistic: Callable[..., Any],
    *,
    resamples: int | None = None,
    vectorized: bool = True,
) -> list[float] | None:
    """[low, high] of ``statistic(*columns)``, a figure of n independent rows; None for a single row.

    Args:
      columns: each [n]; the same rows are drawn, with replacement, from every column.
      statistic: takes the drawn columns; where ``vectorized``, also ``axis``, along which it reduces.
      resamples: number of draws; None: RESAMPLES.

    >>> bootstrap_interval([np.array([1.0, 1.0, 1.0])], np.mean)
    [1.0, 1.0]
    """
    if len(columns[0]) < 2:
        return None
    found = _bootstrap(columns, statistic, RESAMPLES if resamples is None else resamples, vectorized, 0)
    return [float(end) for end in found.confidence_interval]


def percentile_interval(draws: Sequence[float] | np.ndarray, level: float = CONFIDENCE_LEVEL) -> list[float]:
    """[low, high] between which the middle ``level`` of the draws lies.

    >>> percentile_interval(np.arange(101) / 100)
    [0.025..., 0.975]
    """
    tail = 50 * (1 - level)
    return [float(end) for end in np.nanpercentile(draws, [tail, 100 - tail])]


def bootstrap_means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Column means of rows drawn with replacement; values [n] or [n, m], NaN left out → [RESAMPLES] or [RESAMPLES, m].

    Drawing the rows of each part of a benchmark by themselves, and then combining the draws, is a stratified bootstrap.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return np.repeat(values, RESAMPLES, axis=0)

    from scipy import stats  # a second to import

    def mean(drawn: np.ndarray, axis: int) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # a column may be missing from a whole draw
            return np.nansum(drawn, axis) / np.sum(~np.isnan(drawn), axis)

    with warnings.catch_warnings():
        # A draw may hold nothing of a column. scipy's own interval, which is not read here, is then no number.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        return _bootstrap([values.T], mean, RESAMPLES, True, rng).bootstrap_distribution.T


def bootstrap_sums(statistic: Callable[..., np.ndarray], *columns: Sequence[float] | np.ndarray) -> list[float] | None:
    """[low, high] of a function of sums over groups, by drawing whole groups with all of their pairs.

    A group is the independent unit, since its pairs share responses. Of a handful of groups no method makes a good
    interval, and this one is then too narrow. Groups that are all equal have an interval of width 0.

    Args:
      statistic: takes one sum per column, as arrays of one shape, and returns an array of that shape, all finite.
      columns: each [G], one number per group.
    Returns:
      [low, high]; None for fewer than two groups.

    >>> bootstrap_sums(lambda a, b: a / b, [1.0, 1.0], [2.0, 2.0])
    [0.5, 0.5]
    """

    def of_sums(*drawn: np.ndarray, axis: int) -> np.ndarray:
        return statistic(*(column.sum(axis) for column in drawn))

    arrays = [np.asarray(column, np.float64) for column in columns]
    return bootstrap_interval(arrays, of_sums, resamples=GROUP_RESAMPLES)


def ratio_over_groups(
    numerator: Sequence[float] | np.ndarray, denominator: Sequence[float] | np.ndarray
) -> dict[str, Any]:
    """Σ numerator / Σ denominator over groups, both [G]: {"value", "interval"}; None when the denominators add up to 0.

    Groups whose denominator is 0 are left out of the draws.

    >>> ratio_over_groups([1.0, 0.0, 0.0], [1.0, 1.0, 0.0])["value"]
    0.5
    """
    numerator, denominator = (np.asarray(column, np.float64) for column in (numerator, denominator))
    kept = denominator > 0
    if not kept.any():
        return {"value": None, "interval": None}
    numerator, denominator = numerator[kept], denominator[kept]
    value = float(numerator.sum() / denominator.sum())
    return {"value": value, "interval": bootstrap_sums(np.divide, numerator, denominator)}


def mean_over_groups(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """{"value", "interval"} of the mean of one number per group."""
    return ratio_over_groups(values, np.ones(len(values)))


def _bootstrap(columns, statistic, resamples: int, vectorized: bool, rng: np.random.Generator | int) -> Any:
    """scipy's result for columns [..., n] of rows that are drawn together."""
    from scipy import stats  # a second to import

    return stats.bootstrap(
        tuple(columns), statistic, paired=True, vectorized=vectorized, axis=-1, method="percentile",
        n_resamples=resamples, batch=max(1, MAX_DRAWN // max(column.size for column in columns)),
        confidence_level=CONFIDENCE_LEVEL, rng=np.random.default_rng(rng),
    )  # fmt: skip


def _by_prompt(values: np.ndarray, prompts: Sequence[Hashable] | None) -> tuple[np.ndarray, np.ndarray]:
    """[G] sums and counts of each prompt; where prompts are not known, all comparisons count as one prompt's."""
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
