"""Features of a frozen backbone: each distinct text is encoded once, then heads alone are fitted."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from gpmjax.arrays import TokenBatch
from gpmjax.data.encode import EncodedGroup
from gpmjax.data.pipeline import Pipeline, fit_shape
from gpmjax.feature_store import FeatureStore, text_key
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.sharding import put_whole_batch, replicated

ROWS_A_SHARD = 512
"""Encoded texts a file; a kill loses this many at most."""


class GroupFeatures:
    """Features of encoded groups, read from a store for ``data.assemble.assemble_features``."""

    def __init__(self, store: FeatureStore):
        self._store = store
        # A group is read once an epoch; its tokens are hashed the first time only. Groups are kept alive beside their
        # places, so that no id() is used twice.
        self._known: dict[int, tuple[EncodedGroup, list[int]]] = {}

    def __call__(self, group: EncodedGroup) -> tuple[np.ndarray, np.ndarray]:
        """(response [K, D], prompt [D]) of one group; prompt [K, D] where responses bring their own."""
        _, places = self._known.get(id(group)) or self._remember(group)
        response, prompt = self._store.read(places)
        return response, prompt if group.own_prompt else prompt[0]

    def _remember(self, group: EncodedGroup) -> tuple[EncodedGroup, list[int]]:
        self._known[id(group)] = known = (group, self._store.places(group_keys(group)))
        return known


def group_keys(group: EncodedGroup) -> list[bytes]:
    """One key a response."""
    return [text_key(*group.sequence(n)) for n in range(len(group.responses))]


def feature_encoder(
    model: PreferenceModel, load_decoder: Callable[[], dict], mesh: Mesh
) -> Callable[[TokenBatch], tuple[np.ndarray, np.ndarray]]:
    """Batch → (response, prompt) features [B, R, D], all of them on every host.

    The weights are read at the first batch, so that a complete cache never asks for them.
    """
    outputs = replicated(mesh)

    @functools.cache
    def encode() -> Callable[[TokenBatch], tuple[jax.Array, jax.Array]]:
        params = {"decoder": load_decoder()}
        run = jax.jit(
            lambda params, batch: model.apply({"params": params}, batch, method="features"),
            out_shardings=(outputs, outputs),
        )
        return functools.partial(run, params)

    return lambda batch: jax.tree.map(np.asarray, encode()(put_whole_batch(mesh, batch)))


def encode_missing(
    groups: Iterable[EncodedGroup],
    store: FeatureStore,
    encode: Callable[[TokenBatch], tuple[np.ndarray, np.ndarray]],
    *,
    rows: int,
    row_length: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    agree: Callable[[np.ndarray], np.ndarray] = lambda lacking: lacking,
) -> int:
    """Runs the backbone over every distinct text that the store lacks; returns their number.

    Args:
      encode: batch → host arrays (response [B, R, D], prompt [B, R, D]).
      rows, row_length: shape of the batches; several groups share a row.
      progress: called with the numbers of missing texts that are done, and of all.
      agree: [N] bool, which texts this host lacks → which any host lacks; hosts that see different caches must run the
        same batches all the same.
    """
    groups = list(groups)
    keys = [key for group in groups for key in group_keys(group)]
    lacking = agree(np.array([key not in store for key in keys]))
    missing = list(_distinct(groups, {key for key, lacks in zip(keys, lacking, strict=True) if lacks}))
    total = sum(len(group.responses) for group in missing)
    if not total:
        return 0
    tokens = max(row_length, max(group.size[0] for group in missing))
    shape = fit_shape(missing, rows=rows, tokens=tokens)
    pipeline = Pipeline([missing], shape, order="ordered")
    done, keys, arrays = 0, [], []
    for step in range(pipeline.steps(1)):
        batch = pipeline.batch(step)
        response, prompt = encode(batch)
        mask = batch.response_mask
        keys += [key for row in pipeline.rows(step) for group in row for key in group_keys(group)]
        arrays.append((response[mask], prompt[mask]))
        if len(keys) >= ROWS_A_SHARD or step + 1 == pipeline.steps(1):
            store.add(keys, *(np.concatenate(parts) for parts in zip(*arrays, strict=True)))
            keys, arrays = [], []
        done += int(mask.sum())
        progress(done, total)
    return total


def features_in_memory(
    groups: Sequence[EncodedGroup],
    encode: Callable[[TokenBatch], tuple[np.ndarray, np.ndarray]],
    *,
    rows: int,
    row_length: int,
) -> Callable[[EncodedGroup], tuple[np.ndarray, np.ndarray]]:
    """Features of every distinct text of ``groups``, in memory: for a backbone that has just been trained.

    Args: as for `encode_missing`.
    Returns:
      Group → (response [K, D], prompt [K, D]).
    """
    found: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    missing = list(_distinct(groups, {key for group in groups for key in group_keys(group)}))
    shape = fit_shape(missing, rows=rows, tokens=max(row_length, max(group.size[0] for group in missing)))
    pipeline = Pipeline([missing], shape, order="ordered")
    for step in range(pipeline.steps(1)):
        batch = pipeline.batch(step)
        response, prompt = encode(batch)
        keys = [key for row in pipeline.rows(step) for group in row for key in group_keys(group)]
        found |= dict(
            zip(keys, zip(response[batch.response_mask], prompt[batch.response_mask], strict=True), strict=True)
        )

    def read(group: EncodedGroup) -> tuple[np.ndarray, np.ndarray]:
        response, prompt = zip(*(found[key] for key in group_keys(group)), strict=True)
        return np.stack(response), np.stack(prompt)

    return read


def _distinct(groups: Iterable[EncodedGroup], wanted: set[bytes]) -> Iterator[EncodedGroup]:
    """The groups' texts with ``wanted`` keys, each once, as groups without comparisons."""
    left = set(wanted)
    for group in groups:
        new = []
        for n, key in enumerate(group_keys(group)):
            if key in left:
                left.remove(key)
                new.append(n)
        if new:
            yield group.take(new)
