"""What the stages of an iteration leave behind: parquet files with a schema, one a chunk of prompts.

A stage is a directory of chunks, 00000.parquet and so on, each written whole or not at all. What is there is never made
again: a run that was killed goes on at the first chunk that is missing, and reads the others.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
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
        # Of the distribution that was sampled from; null where an endpoint does not tell.
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
        # v [K, 2k] and λ [k] of a preference model with embeddings; null of any other scorer.
        ("embedding", pa.list_(_NUMBERS)),
        ("scale", _NUMBERS),
        # Of each response, from the log-odds s/τ: the mean score, the win rate; and the share of triads that are cycles.
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

Rows = list[dict[str, Any]]


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
    compute: Callable[[Sequence[Any]], Rows],
    facts: dict[str, str],
) -> Rows:
    """The rows of a stage: ``compute(part)`` of every part that has no file yet, then all files as they were written.

    Computed rows are read back from their files too, so a resumed run sees what a straight one does. Every process of a
    multi-host run computes; the first one writes, to a directory that all of them see.

    Args:
        facts: written into the schema's metadata.

    Raises:
        ValueError: a file that is damaged, of another schema, or of other prompts than the run's.
    """
    rows = []
    for number, part in enumerate(parts):
        path = directory / f"{number:05}.parquet"
        # Asked by all before any writes: hosts must agree on who computes.
        missing = not path.exists()
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"before {path}")
        if missing:
            computed = compute(part)
            if is_first_host():
                table = pa.Table.from_pylist(computed, schema=schema.with_metadata(facts))
                with replacing(path) as partial:
                    pq.write_table(table, partial)
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices(f"after {path}")
        rows += read(path, schema)
    return rows


def read(path: Path, schema: pa.Schema) -> Rows:
    """The rows of one file.

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
    return table.to_pylist()
