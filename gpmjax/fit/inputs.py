"""What a fit trains on and is measured on: sources of a config as encoded groups, and the shape of their batches."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gpmjax.config import Config
from gpmjax.data.assemble import BatchShape
from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodeReport
from gpmjax.data.grouping import weigh_groups_alike
from gpmjax.data.pipeline import Pipeline, Prepared, fit_shape, prepare
from gpmjax.data.questions import QuestionFormat
from gpmjax.fit.step import Batch
from gpmjax.models.scores import PreferenceOutput

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
    """Sources as encoded groups that a row of the config's can hold.

    With ``loss.reduction="listwise"`` the weights of a group's comparisons add up to 1, over all the pieces that the group is
    split into; the pairwise loss of a whole group is then losses.reward.listwise_loss.
    """
    data = config.data
    return prepare(
        sources,
        chat,
        max_length=data.max_length,
        row_length=data.row_length or None,
        max_responses=data.max_responses,
        weigh=weigh_groups_alike if config.loss.reduction == "listwise" else None,
    )


def batch_shape(config: Config, prepared: Prepared) -> BatchShape:
    """The fixed shape of every batch of these data."""
    data = config.data
    slots = data.row_length or (None if data.packing == "single" else 2 * data.max_length)
    groups = [group for source in prepared.sources for group in source]
    return fit_shape(groups, rows=data.rows, tokens=slots, packing=data.packing)
