"""What a fit trains on and is measured on: sources of a config as encoded groups, and the shape of their batches."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gpmjax.config import Config
from gpmjax.data.assemble import BatchShape
from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodedGroup, EncodeReport
from gpmjax.data.pipeline import Pipeline, Prepared, fit_shape, prepare
from gpmjax.data.questions import QuestionFormat
from gpmjax.models.heads import PreferenceOutput
from gpmjax.train.step import Batch

Scorer = Callable[[Batch], PreferenceOutput]


class HeldOut(Protocol):
    """A labelled set that is ready to be measured (gpmjax.evals.held_out)."""

    pipeline: Pipeline
    """Each group once, in order, the same on every host."""
    report: EncodeReport

    def measure(self, scorer: Scorer, batches: Iterable[Batch]) -> dict[str, Any]:
        """Figures by name, "accuracy" and "nll" among them."""
        ...


OpenHeldOut = Callable[..., HeldOut]
"""(source, chat, max_length=, rows_per_batch=, row_length=) → set."""


def fit_data(config: Config, chat: ChatFormat | QuestionFormat, sources: tuple[str, ...]) -> Prepared:
    """Sources as encoded groups that a row of the config's can hold."""
    data = config.data
    prepared = prepare(
        sources,
        chat,
        max_length=data.max_length,
        row_length=data.row_length or None,
        max_responses=data.max_responses,
    )
    if config.loss.reduction == "listwise":
        return prepared._replace(sources=[[_weigh_alike(group) for group in source] for source in prepared.sources])
    return prepared


def _weigh_alike(group: EncodedGroup) -> EncodedGroup:
    """The group with its comparisons' weights summing to 1; the pairwise loss is then losses.reward.listwise_loss."""
    total = sum(comparison.weight for comparison in group.comparisons) or 1.0
    scaled = tuple(comparison._replace(weight=comparison.weight / total) for comparison in group.comparisons)
    return group._replace(comparisons=scaled)


def batch_shape(config: Config, prepared: Prepared) -> BatchShape:
    """The fixed shape of every batch of these data."""
    data = config.data
    slots = data.row_length or (None if data.packing == "single" else 2 * data.max_length)
    groups = [group for source in prepared.sources for group in source]
    return fit_shape(groups, rows=data.rows, tokens=slots, packing=data.packing)
