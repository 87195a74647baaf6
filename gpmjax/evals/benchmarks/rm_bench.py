"""RM-Bench: does a judge see a subtle error through the style of the answer?

Rows ``prompt, chosen, rejected, domain, id``; ``chosen`` and ``rejected`` hold one answer in three styles each, from the
plainest: concise, detailed, detailed with markdown. Of the 3×3 comparisons those are *hard* whose rejected answer has the
fancier style, *normal* those of equal style, *easy* those whose chosen one has. Liu et al. 2024, arXiv 2410.16184.

The authors publish one file a domain (``chat_filtered.json``, ``safety-refuse_filtered.json``, ...), whose rows have no ``domain``:
it is then taken from the file's name. A directory with such files is read from them alone, since the file of all rows that
lies beside them repeats them.
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
"""A row's domain begins with one of them: safety-refuse and safety-response are pooled."""
STYLES = 3
LEVELS = ("easy", "normal", "hard")


_DOMAIN = re.compile(rf"({'|'.join(DOMAINS)})(-[a-z]+)*(?![a-z0-9])")


def parts(source: str) -> list[BenchmarkFile]:
    """A file, with the domain that its name begins with; a directory's files that are named so, all it has; or the source itself.

    >>> parts("RM-Bench/safety-refuse_filtered.json"), parts("total_dataset.json?domain=chat")
    ([BenchmarkFile(source='RM-Bench/safety-refuse_filtered.json', fields={'domain': 'safety-refuse'})], [BenchmarkFile(source='total_dataset.json?domain=chat', fields={})])
    """
    base, _ = split_source(source)
    query = source[len(base) :]
    if not Path(base).is_dir():
        domain = _DOMAIN.match(Path(base).name)
        return [BenchmarkFile(source, {"domain": domain[0]} if domain and base.endswith(SUFFIXES) else {})]
    files = sorted(path for path in Path(base).iterdir() if path.name.endswith(SUFFIXES) and _DOMAIN.match(path.name))
    return [part for path in files for part in parts(f"{path}{query}")] or [BenchmarkFile(source)]


def parse(fields: Mapping[str, Any], where: str) -> Group:
    """A row → six responses, the chosen ones first; each chosen one is preferred over each rejected one."""
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
    """[..., 3, 3], rows the style of the chosen and columns that of the rejected → [..., 3] means of easy, normal, hard.

    >>> levels(np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])).tolist()
    [1.0, 1.0, 0.0]
    """
    chosen, rejected = np.indices((STYLES, STYLES))
    parts = [matrix[..., where].mean(axis=-1) for where in (chosen > rejected, chosen == rejected, chosen < rejected)]
    return np.stack(parts, axis=-1)


def summarise(judged: Sequence[Judged], _: Aggregation) -> dict[str, Any]:
    """Domain = mean of its easy, normal and hard; score and each level = mean over the domains present.

    A comparison counts when the chosen answer's score is the higher one; ``half`` counts a tie one half.
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
    mean = lambda key: float(np.mean([section[key] for section in sections.values()]))
    return {
        "score": mean("score"),
        "interval": percentile_interval(overall.mean(axis=1)),
        **{level: mean(level) for level in LEVELS},
        "level_intervals": {level: percentile_interval(overall[:, n]) for n, level in enumerate(LEVELS)},
        "half": mean("half"),
        "sections": sections,
        "subsets": {
            name: _figures(np.stack(margin), bootstrap_means(levels(np.stack(margin) > 0), rng))
            for name, margin in sorted(subsets.items())
            if name not in DOMAINS
        },
        "absent": [name for name in DOMAINS if name not in present],
    }


def _figures(margin: np.ndarray, draws: np.ndarray) -> dict[str, Any]:
    """Of n rows' margins [n, 3, 3], and the levels of resampled rows [draws, 3]."""
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
    parts=parts,
    summarise=summarise,
    columns=(*LEVELS, "half"),
    counting="a tie counts nothing, as its authors count; half: one half",
)
