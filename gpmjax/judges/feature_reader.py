"""`FeatureReader` keeps a backbone's hidden states on disk; models whose backbones are equal share them.

A Bradley–Terry model and a GPM on the same frozen backbone differ in their heads alone, which cost little beside the
backbone.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gpmjax.arrays import Comparisons, FeatureBatch, TokenBatch
from gpmjax.data.encode import EncodedGroup
from gpmjax.feature_store import FeatureStore, text_key
from gpmjax.judges.forward import Scorer
from gpmjax.judges.readout import CHUNK, RESPONSES_STEP, GroupReading, Output, packed_outputs, round_up


class Features(NamedTuple):
    """What heads read of R responses."""

    response: np.ndarray
    """[..., R, D]."""
    prompt: np.ndarray
    """[..., R, D]."""


@dataclasses.dataclass(frozen=True)
class FeatureReader:
    """A `readout.Reader` that runs the backbone over those responses alone whose features the store lacks.

    A response's features are found by the tokens of its prompt and itself. ``forward_tokens`` are those that the group
    takes without the store.
    """

    features: Callable[[TokenBatch], Features]
    """The backbone, jitted, with its parameters filled in."""
    heads: Scorer
    """The same of the heads, for a FeatureBatch."""
    store: FeatureStore
    rows_per_batch: int = 8

    def __call__(self, groups: Sequence[EncodedGroup]) -> Iterator[GroupReading]:
        if not groups:
            return
        places = round_up(max(len(group.responses) for group in groups), RESPONSES_STEP)
        for start in range(0, len(groups), CHUNK):
            chunk = groups[start : start + CHUNK]
            keys = [[text_key(*group.sequence(n)) for n in range(len(group.responses))] for group in chunk]
            self._read_missing(chunk, keys)
            for group, output in zip(chunk, self._outputs(keys, places), strict=True):
                yield GroupReading(output, group.size[0])

    def _read_missing(self, groups: Sequence[EncodedGroup], keys: Sequence[Sequence[bytes]]) -> None:
        wanted: set[bytes] = set()
        missing, names = [], []
        for group, own in zip(groups, keys, strict=True):
            new = [
                n for n, key in enumerate(own) if key not in self.store and key not in wanted and not wanted.add(key)
            ]
            if new:
                missing.append(group.take(new))
                names += [own[n] for n in new]
        if not missing:
            return
        found = [reading.output for reading in packed_outputs(self.features, missing, self.rows_per_batch)]
        self.store.add(names, *(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _outputs(self, keys: Sequence[Sequence[bytes]], places: int) -> Iterator[Output]:
        """What the heads say of each group; all chunks have one shape, so that it is compiled once."""
        rows = round_up(CHUNK, self.rows_per_batch)
        known = [self.store.read(self.store.places(own)) for own in keys]
        size = known[0][0].shape[-1]
        response, prompt = (np.zeros((rows, places, size), np.float32) for _ in range(2))
        mask = np.zeros((rows, places), bool)
        for n, (of_response, of_prompt) in enumerate(known):
            count = len(of_response)
            response[n, :count], prompt[n, :count], mask[n, :count] = of_response, of_prompt, True
        whole = self.heads(FeatureBatch(response, prompt, mask, _no_comparisons(rows)))
        fields = [None if field is None else np.asarray(field) for field in whole]
        for n, own in enumerate(keys):
            # τ is one number; all else is a row of responses.
            yield whole._make(f if f is None or f.ndim == 0 else f[n, : len(own)] for f in fields)


def decoder_fingerprint(config: Any, dtype: str, decoder: Any) -> str:
    """A name for a backbone by its weights, its config and what it computes in; the same whatever heads or files it
    comes with."""
    digest = hashlib.sha256(repr((config, dtype)).encode())
    for path, leaf in sorted(
        (jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(decoder)
    ):
        array = np.ascontiguousarray(leaf)
        digest.update(repr((path, array.shape, str(array.dtype))).encode())
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()[:32]


def _no_comparisons(rows: int) -> Comparisons:
    whole, real = np.zeros((rows, 1), np.int32), np.zeros((rows, 1), np.float32)
    return Comparisons(whole, whole, real, real, real, whole - 1)
