"""The files that an iteration's stages leave: parquet with a schema, one file a chunk of prompts.

A stage is a directory of chunks, 00000.parquet and so on, each written whole or not at all. A chunk that is there is
never made again: a run that was killed goes on at the first chunk that is missing, and reads the others.

Tokens and log-probabilities go from Arrow's columns to numpy without a Python object a number; see `Ragged`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jax.experimental import multihost_utils

from gpmjax.distributed import is_first_host
from gpmjax.files import replacing

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
_NUMBERS = pa.list_(pa.float32())

SAMPLES = pa.schema(
    [
        ("prompt_id", pa.int32()),
        ("where", pa.string()),
        ("prompt", pa.list_(_MESSAGE)),
        ("prompt_tokens", pa.list_(pa.int32())),
        ("responses", pa.list_(pa.string())),
        ("response_tokens", pa.list_(pa.list_(pa.int32()))),
        # Of the distribution that was sampled from; null where an endpoint does not give them.
        ("logprobs", pa.list_(_NUMBERS)),
        ("stopped", pa.list_(pa.bool_())),
    ]
)
SCORES = pa.schema(
    [
        ("prompt_id", pa.int32()),
        # s(i ≻ j), K × K, not divided by τ.
        ("scores", pa.list_(_NUMBERS)),
        ("tau", pa.float32()),
        # v [K, 2k] and λ [k] of a preference model with embeddings; null for any other scorer.
        ("embedding", pa.list_(_NUMBERS)),
        ("scale", _NUMBERS),
        # From the log-odds s/τ: mean score and win rate of each response, and the share of triads that are cycles.
        ("mean_score", _NUMBERS),
        ("win_rate", _NUMBERS),
        ("cyclic_share", pa.float32()),
    ]
)
LOGPROBS = pa.schema(
    [
        ("prompt_id", pa.int32()),
        # Of each response's tokens, at temperature 1, whatever they were sampled at.
        ("logprobs", pa.list_(_NUMBERS)),
    ]
)


@dataclasses.dataclass(frozen=True)
class Ragged:
    """N arrays of unlike lengths, end to end."""

    values: np.ndarray
    """All numbers of all arrays."""
    starts: np.ndarray
    """[N + 1] int: array n is ``values[starts[n] : starts[n + 1]]``."""

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "Ragged":
        """The innermost lists of a column, in order: of lists of lists, all the inner ones.

        >>> tokens = Ragged.of(pa.chunked_array([[[[5, 6], [7]], [[8], []]]]))
        >>> len(tokens), tokens[0].tolist(), tokens.lengths.tolist()
        (4, [5, 6], [2, 1, 1, 0])
        """
        lists = column.chunks
        while pa.types.is_list(lists[0].type.value_type):
            lists = [chunk.flatten() for chunk in lists]
        lengths = np.concatenate([chunk.value_lengths().to_numpy() for chunk in lists])
        values = np.concatenate([chunk.flatten().to_numpy() for chunk in lists])
        return cls(values, np.append(0, np.cumsum(lengths, dtype=np.int64)))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, n: int) -> np.ndarray:
        """Array n, a view."""
        if not 0 <= n < len(self):
            raise IndexError(n)
        return self.values[self.starts[n] : self.starts[n + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[n] for n in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        """[N] int."""
        return np.diff(self.starts)

    def sums(self) -> np.ndarray:
        """[N] float32: each array's numbers, added in their order in float64."""
        return np.array([np.cumsum(array, dtype=np.float64)[-1] if array.size else 0.0 for array in self], np.float32)


def stacked(column: pa.ChunkedArray) -> np.ndarray:
    """Numbers, or lists that are all equally long, as one array [N, …]. The column holds no nulls.

    >>> stacked(pa.chunked_array([[[[1.0, 2.0]], [[3.0, 4.0]]]])).shape
    (2, 1, 2)
    """
    chunks, shape = column.chunks, [len(column)]
    while pa.types.is_list(chunks[0].type):
        lists = sum(map(len, chunks))
        chunks = [chunk.flatten() for chunk in chunks]
        shape.append(sum(map(len, chunks)) // lists)
    return np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in chunks]).reshape(shape)


def chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """``items`` in order, ``size`` at a time.

    >>> chunks("abcde", 2)
    ['ab', 'cd', 'e']
    """
    return [items[start : start + size] for start in range(0, len(items), size)]


def stage(
    directory: Path,
    schema: pa.Schema,
    parts: Iterable[Sequence[Any]],
    compute: Callable[[Sequence[Any]], list[dict[str, Any]]],
    facts: dict[str, str],
) -> pa.Table:
    """The table of a stage: ``compute(part)`` of every part that has no file yet, then all files as they were written.

    What was computed is read back from its file too, so a resumed run sees what a straight one does. Every process of a
    multi-host run computes; the first one writes, to a directory that all of them see.

    Args:
        compute: part → one dict a prompt, by the names of the schema.
        facts: written into the schema's metadata.

    Raises:
        ValueError: a file that is damaged, of another schema, or of other prompts than the run's.
    """
    tables = []
    for number, part in enumerate(parts):
        path = directory / f"{number:05}.parquet"
        # Asked by all before any writes: hosts must agree on who computes.
        missing = not path.exists()
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"before {path}")
        if missing:
            write(path, compute(part), schema.with_metadata(facts))
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices(f"after {path}")
        tables.append(read(path, schema).replace_schema_metadata(None))
    return pa.concat_tables(tables)


def write(path: Path, prompts: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Writes one dict a prompt, on the first host."""
    if is_first_host():
        with replacing(path) as partial:
            pq.write_table(pa.Table.from_pylist(prompts, schema=schema), partial)


def read(path: Path, schema: pa.Schema) -> pa.Table:
    """One file.

    Raises:
        ValueError: it is damaged, or of another schema.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: cannot be read ({reason}); delete it to have it made again") from error
    if not table.schema.equals(schema):
        raise ValueError(f"{path}: columns {', '.join(table.schema.names)}, expected {', '.join(schema.names)}")
    return table
