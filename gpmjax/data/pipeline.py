"""Turns sources into batches: `prepare` reads, merges, encodes and splits; `Pipeline` makes any batch by its number.

``Pipeline.batch(step)`` is a pure function of the groups, the seed and the step. The step is the only state: to resume,
ask for the next step. All hosts ask for the same step, and each gets its own rows of the batch, as many as every other
host.
"""

import bisect
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gpmjax.arrays import TokenBatch
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodedGroup, EncodeReport, encode_groups
from gpmjax.data.formats import DEFAULT_OPTIONS, ParseOptions
from gpmjax.data.group_files import read_groups
from gpmjax.data.grouping import merge_groups, split_group
from gpmjax.data.mixture import mixture
from gpmjax.data.packing import Row, plan
from gpmjax.data.questions import QuestionFormat


class Prepared(NamedTuple):
    """Encoded sources, ready to be packed."""

    sources: list[list[EncodedGroup]]
    """The groups of each source."""
    report: EncodeReport
    """Counts of what encoding cut and dropped."""
    places: list[str]
    """The place that each comparison was read from, by the comparison's ``number``."""


def prepare(
    sources: Sequence[str],
    chat: ChatFormat | QuestionFormat,
    *,
    max_length: int,
    row_length: int | None = None,
    max_responses: int | None = None,
    max_comparisons: int | None = None,
    options: ParseOptions = DEFAULT_OPTIONS,
    weigh: Callable[[EncodedGroup], EncodedGroup] | None = None,
) -> Prepared:
    """Reads, merges, encodes and splits the groups of each source; comparisons are numbered across all sources.

    Args:
        sources: see gpmjax.data.sources; ``builtin:NAME`` is a generated game.
        max_length: most tokens of one prompt with one response; longer sequences are cut, see gpmjax.data.window.
        row_length: token slots of a row; None is twice max_length, which holds any pair.
        max_responses, max_comparisons: limits of the pieces that a group is split into; None is no limit.
        weigh: sets the weights of a group's comparisons before the group is split; None leaves them as read.

    Raises:
        FileNotFoundError, ValueError: one line that names the file, and the line and field where the problem has one.
    """
    encoded, report, places = [], EncodeReport(), []
    for source in sources:
        groups = read_groups(source, options, first_number=len(places))
        places += [group.where for group in groups for _ in group.comparisons]
        kept, cut = encode_groups(merge_groups(groups), chat, max_length=max_length)
        if not kept:
            raise ValueError(f"{source}: every comparison is between equal texts, so no group is left")
        limits = dict(max_responses=max_responses, max_comparisons=max_comparisons)
        weighed = kept if weigh is None else map(weigh, kept)
        encoded.append([p for g in weighed for p in split_group(g, row_length=row_length or 2 * max_length, **limits)])
        report += cut
    return Prepared(encoded, report, places)


def fit_shape(
    groups: Sequence[EncodedGroup], *, rows: int, tokens: int | None = None, packing: str = "pack"
) -> BatchShape:
    """The smallest shape in which ``groups`` pack as densely as rows of ``tokens`` slots allow.

    ``tokens`` None is the length of the longest group. R and C are those of the fullest row of a trial packing that
    only tokens limit.
    """
    sizes = np.array([group.size for group in groups])
    tokens = int(sizes[:, 0].max()) if tokens is None else tokens
    unlimited = np.iinfo(np.int64).max
    (batch, *_) = plan(
        sizes, capacity=(tokens, unlimited, unlimited), rows_per_batch=len(groups), order="ordered", packing=packing
    )
    fullest = np.max([sizes[list(row), 1:].sum(axis=0) for row in batch if row], axis=0)
    return BatchShape(rows, tokens, *map(int, fullest))


class Pipeline:
    """Makes any batch by its number.

    Args:
        sources: encoded groups, one list for each data set (``Prepared.sources``).
        shape: shape of the whole batch, over all hosts.
        weights: each source's share of an epoch, counted in the given groups (in pieces, where a group was split), not
            in comparisons or their weights; None: every group once in an epoch.
        order: "shuffled" is a new order each epoch; "ordered" has each group once in a fixed order, for evaluation.
        packing: "pack" fills rows with several groups, "single" puts one group in a row.
        host, hosts: index of this process, and the number of processes; ``shape.rows`` must be a multiple of hosts.

    Raises:
        ValueError: a group is larger than a row, or the hosts cannot share the rows equally.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[EncodedGroup]],
        shape: BatchShape,
        *,
        weights: Sequence[float] | None = None,
        seed: int = 0,
        order: str = "shuffled",
        packing: str = "pack",
        host: int = 0,
        hosts: int = 1,
    ):
        if shape.rows % hosts:
            raise ValueError(f"{shape.rows} rows a batch cannot be shared equally by {hosts} hosts")
        self.shape = shape
        self._groups = [group for source in sources for group in source]
        if not self._groups:
            raise ValueError("sources: there is no group to make batches of")
        self._counts = [len(source) for source in sources]
        self._sizes = np.array([group.size for group in self._groups])
        self._weights, self._seed, self._order, self._packing = weights, seed, order, packing
        self._slice = slice(shape.rows // hosts * host, shape.rows // hosts * (host + 1))
        self._current: tuple[int, list[list[Row]]] = (-1, [])
        self._ends: list[int] = []  # the step at which each planned epoch ends
        mixture(self._counts, weights, seed=seed, epoch=0)  # refuses bad weights now rather than at the first step
        self._check_fit()

    @property
    def groups(self) -> Sequence[EncodedGroup]:
        """All groups that batches are made of, source by source."""
        return self._groups

    def steps(self, epochs: int) -> int:
        """Number of batches in the first ``epochs`` epochs; epochs pack differently and may differ by a few batches."""
        while len(self._ends) < epochs:
            epoch = len(self._ends)
            self._ends.append((self._ends[-1] if self._ends else 0) + len(self._plan(epoch)))
        return self._ends[epochs - 1] if epochs else 0

    def locate(self, step: int) -> tuple[int, int]:
        """(epoch, index of the batch in that epoch) of a step."""
        while not self._ends or self._ends[-1] <= step:
            self.steps(len(self._ends) + 1)
        epoch = bisect.bisect_right(self._ends, step)
        return epoch, step - self.steps(epoch)

    def rows(self, step: int) -> list[list[EncodedGroup]]:
        """The groups in each of this host's rows of a step."""
        epoch, index = self.locate(step)
        return [[self._groups[i] for i in row] for row in self._plan(epoch)[index][self._slice]]

    def batch(self, step: int) -> TokenBatch:
        """This host's rows of a step, as arrays."""
        return assemble(self.rows(step), self.shape)

    def _plan(self, epoch: int) -> list[list[Row]]:
        if self._order == "ordered":
            epoch = 0
        if self._current[0] != epoch:
            ids = mixture(self._counts, self._weights, seed=self._seed, epoch=epoch)
            places = plan(
                self._sizes[ids],
                capacity=self.shape.capacity,
                rows_per_batch=self.shape.rows,
                seed=self._seed,
                epoch=epoch,
                order=self._order,
                packing=self._packing,
            )
            batches = [[tuple(int(ids[place]) for place in row) for row in batch] for batch in places]
            self._current = (epoch, batches)
        return self._current[1]

    def _check_fit(self) -> None:
        for group in self._groups:
            if any(size > limit for size, limit in zip(group.size, self.shape.capacity, strict=True)):
                raise ValueError(
                    f"{group.where}: a group of (tokens, responses, comparisons) {group.size} is larger than a row of "
                    f"{self.shape.capacity}; split the group, or make rows larger"
                )
