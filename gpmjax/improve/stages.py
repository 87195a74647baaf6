"""The stages that come before an update: samples, scores, log-probabilities. Each leaves parquet and is made once.

Models are loaded when a stage first needs them and let go when it ends, so policy and scorer are never in memory together
and a finished stage costs nothing.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jax.sharding import Mesh

from gpmjax.config.improve import RolloutConfig
from gpmjax.data.chat import ChatFormat
from gpmjax.data.groups import Group, Message
from gpmjax.data.prompts import EncodedPrompt
from gpmjax.distributed import is_first_host
from gpmjax.files import replacing
from gpmjax.improve import tables
from gpmjax.improve.batch import Example, assemble_policy, fit_policy_shape
from gpmjax.improve.signals import response_facts
from gpmjax.improve.step import response_logprobs
from gpmjax.improve.tables import Rows
from gpmjax.judges.judge import Judge, Verdict, judge_name, skew_symmetric
from gpmjax.sampling.endpoint import HttpRollout
from gpmjax.sampling.http import Server
from gpmjax.sampling.logits import SamplingPlan
from gpmjax.sampling.rollout import LocalRollout, Rollout, RolloutFailed, Rollouts
from gpmjax.sharding import put_whole_batch, replicated
from gpmjax.train.backbone import OpenDecoder

KEPT = "kept.parquet"
"""What a rollout that failed had drawn until then."""

Progress = Callable[[], None]
"""Called between chunks; may raise StopRequested."""


def local_rollout(config: RolloutConfig, policy: OpenDecoder, chat: ChatFormat, mesh: Mesh) -> Rollout:
    """The sampler on this machine's devices, holding the policy's weights."""
    return LocalRollout(policy.model, policy.load(), chat, _plan(config), config.responses, mesh, config.rows)


def endpoint_rollout(config: RolloutConfig, chat: ChatFormat, model: str) -> Rollout:
    """A server that holds the policy under the name ``model``."""
    server = Server(config.endpoint, timeout=config.timeout, retries=config.retries)
    return HttpRollout(server, model, chat, _plan(config), config.responses)


def _plan(config: RolloutConfig) -> SamplingPlan:
    return SamplingPlan(config.max_new_tokens, config.temperature, config.top_k, config.top_p)


def samples(
    directory: Path,
    prompts: Sequence[EncodedPrompt],
    open_rollout: Callable[[], Rollout],
    *,
    seed: int,
    prompts_a_file: int,
    facts: dict[str, str],
    between: Progress,
) -> Rows:
    """K responses to every prompt, drawn or read back.

    Raises:
        RolloutFailed: an endpoint gave up; what it had answered is kept, and is not asked for again.
    """
    rollout = functools.cache(open_rollout)

    def compute(part: Sequence[EncodedPrompt]) -> Rows:
        between()
        kept = {row["prompt_id"]: row for row in _read_kept(directory)}
        asked = [prompt for prompt in part if prompt.number not in kept]
        if asked:
            try:
                drawn = rollout()([p.prompt.messages for p in asked], seed, [p.number for p in asked])
            except RolloutFailed as error:
                answered = [_sample_row(asked[place], found) for place, found in error.kept.items()]
                _write_kept(directory, [*kept.values(), *answered])
                raise
            kept |= {p.number: _sample_row(p, found) for p, found in zip(asked, drawn, strict=True)}
        return [kept[prompt.number] for prompt in part]

    rows = tables.stage(directory, tables.SAMPLES, tables.chunks(prompts, prompts_a_file), compute, facts)
    if is_first_host():
        (directory / KEPT).unlink(missing_ok=True)
    return rows


def _read_kept(directory: Path) -> Rows:
    path = directory / KEPT
    return tables.read(path, tables.SAMPLES) if path.exists() else []


def _write_kept(directory: Path, rows: Rows) -> None:
    if is_first_host():
        with replacing(directory / KEPT) as partial:
            pq.write_table(pa.Table.from_pylist(rows, schema=tables.SAMPLES), partial)


def _sample_row(prompt: EncodedPrompt, found: Rollouts) -> dict[str, Any]:
    lists = lambda arrays: [np.asarray(array).tolist() for array in arrays]
    return {
        "prompt_id": prompt.number,
        "where": prompt.prompt.where,
        "prompt": [message.packed() for message in prompt.prompt.messages],
        "prompt_tokens": prompt.tokens.tolist(),
        "responses": list(found.texts),
        "response_tokens": lists(found.tokens),
        "logprobs": None if found.logprobs is None else lists(found.logprobs),
        "stopped": list(found.stopped),
    }


def group_of(row: dict[str, Any]) -> Group:
    """A row of samples as the group of responses that a judge compares."""
    prompt = tuple(Message.unpacked(**message) for message in row["prompt"])
    return Group(prompt, tuple(row["responses"]), where=row["where"])


def scores(
    directory: Path,
    sampled: Rows,
    open_scorer: Callable[[], Judge],
    *,
    prompts_a_file: int,
    facts: dict[str, str],
    between: Progress,
) -> Rows:
    """Every pair of every prompt's responses, compared or read back.

    Raises:
        ValueError: the scorer gave a NaN or a matrix that is not skew-symmetric; the samples stay.
    """
    scorer = functools.cache(open_scorer)

    def compute(part: Rows) -> Rows:
        between()
        groups, name = [group_of(row) for row in part], judge_name(scorer())
        verdicts = list(scorer()(groups, "all"))
        if cut := sum(verdict.truncated for verdict in verdicts):
            logging.warning("%s: %d of %d prompts or their responses were cut to the window", name, cut, len(verdicts))
        matrices = [
            skew_symmetric(verdict.scores.astype(np.float32), verdict.tau, f"{name}: {group.where}")
            for group, verdict in zip(groups, verdicts, strict=True)
        ]
        known = response_facts(np.stack(matrices), verdicts[0].tau)
        return [
            {"prompt_id": row["prompt_id"], "scores": matrix.tolist(), "tau": verdict.tau}
            | _embedding(verdict)
            | shares
            for row, matrix, verdict, shares in zip(part, matrices, verdicts, known, strict=True)
        ]

    return tables.stage(directory, tables.SCORES, tables.chunks(sampled, prompts_a_file), compute, facts)


def _embedding(verdict: Verdict) -> dict[str, Any]:
    """The columns of a preference embedding and its gate, which a reward alone, a single number, is not."""
    whole = None if verdict.embedding is None or verdict.embedding.shape[-1] == 1 else verdict.embedding
    return {
        name: None if array is None else array.tolist()
        for name, array in (("embedding", whole), ("scale", verdict.scale))
    }


def stacked(rows: Rows, name: str) -> np.ndarray | None:
    """A column of a stage's rows as one float32 array over all prompts; None where it holds nothing."""
    return None if rows[0][name] is None else np.array([row[name] for row in rows], np.float32)


def logprobs(
    directory: Path,
    sampled: Rows,
    policy: OpenDecoder,
    mesh: Mesh,
    *,
    batch: int,
    prompts_a_file: int,
    facts: dict[str, str],
    between: Progress,
) -> Rows:
    """log π of every response's tokens under ``policy``, computed ``batch`` prompts at a time or read back."""
    examples = [unsignalled(row) for row in sampled]
    shape = fit_policy_shape(examples, batch)

    @functools.cache
    def forward():
        params = {"decoder": policy.load()}
        run = jax.jit(
            lambda params, rows: response_logprobs(policy.model, params, rows), out_shardings=replicated(mesh)
        )
        return functools.partial(run, params)

    def compute(part: Sequence[Example]) -> Rows:
        rows = []
        for some in tables.chunks(part, batch):
            between()
            found = np.asarray(forward()(put_whole_batch(mesh, assemble_policy(some, shape))))
            for example, values in zip(some, found, strict=False):
                ends = [len(response) for response in example.responses]
                rows.append(
                    {
                        "prompt_id": example.prompt_id,
                        "logprobs": [row[:end].tolist() for row, end in zip(values, ends, strict=False)],
                    }
                )
        return rows

    return tables.stage(directory, tables.LOGPROBS, tables.chunks(examples, prompts_a_file), compute, facts)


def unsignalled(row: dict[str, Any]) -> Example:
    """A row of samples as an example that says nothing yet of its responses."""
    responses = tuple(np.array(tokens, np.int32) for tokens in row["response_tokens"])
    nothing = tuple(np.zeros(len(tokens), np.float32) for tokens in responses)
    none = np.zeros(len(responses), np.float32)
    square = np.zeros((len(responses), len(responses)), np.float32)
    prompt = np.array(row["prompt_tokens"], np.int32)
    return Example(row["prompt_id"], prompt, responses, nothing, nothing, none, none, none, square)
