"""RM-Bench: whether a judge finds a subtle error whatever the style of the answers.

Rows have ``prompt, chosen, rejected, domain, id``. ``chosen`` and ``rejected`` each hold one answer in three styles,
the plainest first: concise, detailed, detailed with markdown. Of the 3×3 comparisons those whose rejected answer has
the richer style are *hard*, those of equal style *normal*, and those whose chosen answer has the richer style *easy*.
Source: Liu et al. 2024, arXiv 2410.16184.

The authors publish one file per domain (``chat_filtered.json``, ``safety-refuse_filtered.json``, ...), whose rows have
no ``domain``; the domain is then taken from the file's name. A directory with such files is read from them alone, since
the file of all rows beside them repeats their rows.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpmjax.data.fields import FieldError, short_repr
from gpmjax.data.groups import Comparison, Group
from gpmjax.data.sources import SUFFIXES, split_source
from gpmjax.evals.benchmarks.aggregation import Aggregation
from gpmjax.evals.benchmarks.protocol import Benchmark, BenchmarkFile, Judged
from gpmjax.evals.benchmarks.reading import prompt, replies, tags, word
from gpmjax.evals.intervals import bootstrap_means, percentile_interval

DOMAINS = ("chat", "math", "code", "safety")
"""A row's domain begins with one of these; safety-refuse and safety-response are pooled."""
STYLES = 3
LEVELS = ("easy", "normal", "hard")


_DOMAIN = re.compile(rf"({'|'.join(DOMAINS)})(-[a-z]+)*(?![a-z0-9])")


def domain_files(source: str) -> list[BenchmarkFile]:
    """The files of a source: a directory's files whose names begin with a domain, or the source itself.

    >>> domain_files("RM-Bench/safety-refuse_filtered.json")
    [BenchmarkFile(source='RM-Bench/safety-refuse_filtered.json', fields={'domain': 'safety-refuse'})]
    >>> [file.source for file in domain_files("total_dataset.json?domain=chat")]
    ['total_dataset.json?domain=chat']
    """
    base, _ = split_source(source)
    query = source[len(base) :]
    if not Path(base).is_dir():
        domain = _DOMAIN.match(Path(base).name)
        return [BenchmarkFile(source, {"domain": domain[0]} if domain and base.endswith(SUFFIXES) else {})]
    files = sorted(path for path in Path(base).iterdir() if path.name.endswith(SUFFIXES) and _DOMAIN.match(path.name))
    return [file for path in files for file in domain_files(f"{path}{query}")] or [BenchmarkFile(source)]


def parse(fields: Mapping[str, Any], where: str) -> Group:
    """A row's group of six responses, the chosen ones first, each preferred over each rejected one."""
    domain = word(fields, "domain", where)
    if not domain.startswith(DOMAINS):
        raise FieldError(where, "domain", f"must begin with {', '.join(DOMAINS)}, is {short_repr(domain)}")
    responses = []
    for name in ("chosen", "rejected"):
        styles = replies(fields, name, where)
        if len(styles) != STYLES:
            raise FieldError(where, name, f"must hold {STYLES} styles of one response, holds {len(styles)}")
        responses += styles
    comparisons = tuple(Comparison(i, STYLES + j) for i in range(STYLES) for j in range(STYLES))
    return Group(prompt(fields, "prompt", where), tuple(responses), comparisons, tags(fields, "id", "domain"), where)


def levels(matrix: np.ndarray) -> np.ndarray:
    """Means over the easy, normal and hard comparisons, [..., 3].

    ``matrix`` is [..., 3, 3]; rows are the style of the chosen answer, columns that of the rejected one.

    >>> levels(np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])).tolist()
    [1.0, 1.0, 0.0]
    """
    chosen, rejected = np.indices((STYLES, STYLES))
    parts = [matrix[..., where].mean(axis=-1) for where in (chosen > rejected, chosen == rejected, chosen < rejected)]
    return np.stack(parts, axis=-1)


def summarise(judged: Sequence[Judged], _: Aggregation) -> dict[str, Any]:
    """The score and each level are means over the present domains; a domain's score is the mean of its three levels.

    A comparison counts when the chosen answer has the higher score. ``half`` counts a tie one half.
    """
    domains, subsets = defaultdict(list), defaultdict(list)
    for one in judged:
        domain, margin = one.group.tags["domain"], one.skew[:STYLES, STYLES:]
        domains[next(name for name in DOMAINS if domain.startswith(name))].append(margin)
        subsets[domain].append(margin)
    rng = np.random.default_rng(0)
    present = {name: np.stack(domains[name]) for name in DOMAINS if name in domains}
    draws = {name: bootstrap_means(levels(margin > 0), rng) for name, margin in present.items()}
    sections = {name: _figures(margin, draws[name]) for name, margin in present.items()}
    overall = np.mean(list(draws.values()), axis=0)
    means = {key: float(np.mean([section[key] for section in sections.values()])) for key in ("score", *LEVELS, "half")}
    return {
        "score": means["score"],
        "interval": percentile_interval(overall.mean(axis=1)),
        **{level: means[level] for level in LEVELS},
        "level_intervals": {level: percentile_interval(overall[:, n]) for n, level in enumerate(LEVELS)},
        "half": means["half"],
        "sections": sections,
        "subsets": {
            name: _figures(np.stack(margin), bootstrap_means(levels(np.stack(margin) > 0), rng))
            for name, margin in sorted(subsets.items())
            if name not in DOMAINS
        },
        "absent": [name for name in DOMAINS if name not in present],
    }


def _figures(margin: np.ndarray, draws: np.ndarray) -> dict[str, Any]:
    """Figures of n rows' margins [n, 3, 3], with intervals from the levels of resampled rows [draws, 3]."""
    means = levels(margin > 0).mean(axis=0)
    return {
        "rows": len(margin),
        "score": float(means.mean()),
        "interval": percentile_interval(draws.mean(axis=1)),
        **dict(zip(LEVELS, means.tolist(), strict=True)),
        "half": float(levels((np.sign(margin) + 1) / 2).mean()),
        "matrix": (margin > 0).mean(axis=0).tolist(),
    }


RM_BENCH = Benchmark(
    name="rm_bench",
    split="train",
    parse=parse,
    files=domain_files,
    summarise=summarise,
    columns=(*LEVELS, "half"),
    counting="a tie counts 0 by the authors' rule; half: a tie counts one half",
)
