"""Training on a frozen backbone's features: encode each distinct text once, then only heads are left to fit."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from gpmjax.arrays import TokenBatch
from gpmjax.data.encode import EncodedGroup
from gpmjax.data.pipeline import Pipeline, fit_shape
from gpmjax.train.feature_store import FeatureStore, text_key

ROWS_A_SHARD = 512
"""A kill loses this many encoded texts at most."""


class GroupFeatures:
    """Features of encoded groups, out of a store: what ``data.assemble.assemble_features`` asks for."""

    def __init__(self, store: FeatureStore):
        self._store = store

    def __call__(self, group: EncodedGroup) -> tuple[np.ndarray, np.ndarray]:
        """(response [K, D], prompt [D]) of one group."""
        response, prompt = self._store.lookup(group_keys(group))
        return response, prompt[0]


def group_keys(group: EncodedGroup) -> list[bytes]:
    """One key a response."""
    return [text_key(group.prompt, group.prompt_end, response) for response in group.responses]


def encode_missing(
    groups: Iterable[EncodedGroup],
    store: FeatureStore,
    encode: Callable[[TokenBatch], tuple[np.ndarray, np.ndarray]],
    *,
    rows: int,
    row_length: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Runs the backbone over every distinct text that the store lacks; returns how many that were.

    Args:
      encode: batch → host arrays (response [B, R, D], prompt [B, R, D]).
      rows, row_length: shape of the batches; several groups share a row.
      progress: told how many of the missing texts are done.
    """
    missing = list(_without_known(groups, store))
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


def _without_known(groups: Iterable[EncodedGroup], store: FeatureStore) -> Iterator[EncodedGroup]:
    """The groups' texts that the store lacks, each once, as groups without comparisons."""
    seen: set[bytes] = set()
    for group in groups:
        keys = group_keys(group)
        new = []
        for key, response in zip(keys, group.responses, strict=True):
            if key not in store and key not in seen:
                seen.add(key)
                new.append(response)
        if new:
            yield group._replace(responses=tuple(new), comparisons=())
