"""What a fit trains on and is measured on: a config's sources as encoded groups, and how batches are made of them."""

import functools
import logging
from collections.abc import Callable
from typing import NamedTuple

from jax.sharding import Mesh

from gpmjax.config import Config
from gpmjax.data.assemble import BatchShape, Rows
from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodedGroup
from gpmjax.data.grouping import weigh_groups_alike
from gpmjax.data.pipeline import Pipeline, Prepared, fit_shape, prepare
from gpmjax.data.questions import QuestionFormat, response_format
from gpmjax.evals.held_out import HeldOut, held_out
from gpmjax.fit.folds import leave_out
from gpmjax.fit.step import Batch
from gpmjax.sharding import row_share
from gpmjax.train.backbone import Backbone

Assemble = Callable[[Rows, BatchShape], Batch]
"""Rows of groups → a batch of tokens, or of cached features."""


class FitData(NamedTuple):
    """Everything that a fit reads of its sources."""

    train: Prepared
    """What is fitted."""
    left_out: list[EncodedGroup]
    """Training groups on which `fit.second_stage` chooses penalties; empty where there is one stage."""
    sources: list[list[EncodedGroup]]
    """All training groups, those left out too."""
    eval_sets: dict[str, HeldOut]
    """By source."""

    @property
    def groups(self) -> list[EncodedGroup]:
        """The groups that are fitted, source by source."""
        return [group for source in self.train.sources for group in source]


def two_stages(config: Config) -> bool:
    """Whether a hybrid's cyclic part is fitted after its backbone and its reward."""
    return config.loss.curl == "auto" and config.model.backbone != "frozen"


def read_data(config: Config, backbone: Backbone) -> FitData:
    """Reads and encodes the sources of a config, and says what had to be cut.

    Raises:
      FileNotFoundError, ValueError: a source, template or length that cannot be used; one line.
    """
    data, spec = config.data, backbone.model.spec
    backbone.model.config.require_positions("config.data.max_length", data.max_length)
    chat = ChatFormat(backbone.tokenizer, template=data.template, **spec.encoding())
    reads = functools.partial(response_format, chat, spec.question, spec.kind)
    whole = read_training_data(config, reads(order=data.order))
    train, left_out = whole, []
    if two_stages(config):
        kept, left_out = leave_out(whole.sources, len(whole.places), config.loss.held_out_share, config.seed)
        train = whole._replace(sources=kept)
    eval_sets = {
        source: held_out(
            source,
            reads(),
            max_length=data.max_length,
            rows_per_batch=data.rows,
            row_length=data.row_length or None,
        )
        for source in data.eval
    }
    reports = {"config.data.train": train.report} | {name: found.report for name, found in eval_sets.items()}
    for name, report in reports.items():
        if cut := report.cut_line(data.max_length):
            logging.warning("%s: %s", name, cut)
    return FitData(train, left_out, whole.sources, eval_sets)


def read_training_data(config: Config, chat: ChatFormat | QuestionFormat) -> Prepared:
    """``data.train`` as encoded groups that a row of the config's can hold.

    With ``loss.reduction="listwise"`` the weights of a group's comparisons add up to 1, over all the pieces that the
    group is split into; the pairwise loss of a whole group is then losses.reward.listwise_loss.
    """
    data = config.data
    return prepare(
        data.train,
        chat,
        max_length=data.max_length,
        row_length=data.row_length or None,
        max_responses=data.max_responses,
        weigh=weigh_groups_alike if config.loss.reduction == "listwise" else None,
    )


def training_shape(config: Config, prepared: Prepared) -> BatchShape:
    """The fixed shape of every training batch."""
    data = config.data
    slots = data.row_length or (None if data.packing == "single" else 2 * data.max_length)
    groups = [group for source in prepared.sources for group in source]
    return fit_shape(groups, rows=data.rows, tokens=slots, packing=data.packing)


def training_pipeline(config: Config, prepared: Prepared, mesh: Mesh | None) -> Pipeline:
    """Training batches by number: this host's share of them, or whole ones where ``mesh`` is None."""
    share, shares = row_share(mesh) if mesh else (0, 1)
    return Pipeline(
        prepared.sources,
        training_shape(config, prepared),
        weights=config.data.weights or None,
        seed=config.seed,
        packing=config.data.packing,
        host=share,
        hosts=shares,
    )
