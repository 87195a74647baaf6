"""The stages before an update: samples, scores, log-probabilities. Each writes parquet files and is made once.

A stage loads its model when it first needs it and frees it at its end, so policy and scorer are never in memory
together. A finished stage loads no model.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
from jax.sharding import Mesh

from gpmjax.config.improve import RolloutConfig
from gpmjax.data.chat import ChatFormat
from gpmjax.data.groups import Group, Message
from gpmjax.data.prompts import EncodedPrompt
from gpmjax.distributed import is_first_host
from gpmjax.improve import tables
from gpmjax.improve.batch import Example, assemble_policy, policy_shape
from gpmjax.improve.signals import response_facts
from gpmjax.improve.step import response_logprobs
from gpmjax.improve.tables import Ragged
from gpmjax.judges.judge import Judge, Verdict, judge_name, skew_symmetric
from gpmjax.sampling.endpoint import HttpRollout
from gpmjax.sampling.http import Server
from gpmjax.sampling.logits import SamplingPlan
from gpmjax.sampling.rollout import LocalRollout, Rollout, RolloutFailed, Rollouts
from gpmjax.sharding import put_whole_batch, replicated
from gpmjax.train.backbone import OpenDecoder

KEPT = "kept.parquet"
"""Name of the file with the responses that a failed rollout had drawn."""

Progress = Callable[[], None]
"""Called between chunks; may raise StopRequested."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """K responses to each of N prompts. Numbers are flat, texts stay in Arrow's columns."""

    prompt_ids: np.ndarray
    """[N] int32."""
    prompt_tokens: Ragged
    response_tokens: Ragged
    """Response k to prompt n is array n·K + k; so it is in ``logprobs``."""
    logprobs: Ragged | None
    """Under the distribution that was sampled from; None where an endpoint does not give them."""
    stopped: np.ndarray
    """[N, K] bool."""
    text: pa.Table
    """Columns "where", "prompt" and "responses"."""

    @classmethod
    def of(cls, table: pa.Table) -> "Samples":
        """Of a table with the schema `tables.SAMPLES`."""
        return cls(
            table["prompt_id"].to_numpy(),
            Ragged.of(table["prompt_tokens"]),
            Ragged.of(table["response_tokens"]),
            None if table["logprobs"].null_count else Ragged.of(table["logprobs"]),
            tables.stacked(table["stopped"]),
            table.select(["where", "prompt", "responses"]),
        )

    def __len__(self) -> int:
        return len(self.prompt_ids)

    @property
    def count(self) -> int:
        """K."""
        return len(self.response_tokens) // len(self)

    @property
    def lengths(self) -> np.ndarray:
        """[N, K] int: tokens of each response."""
        return self.response_tokens.lengths.reshape(len(self), self.count)

    def texts(self, n: int) -> list[str]:
        """The K responses to prompt n."""
        return self.text["responses"][n].as_py()

    def group(self, n: int, opponents: "Samples | None" = None) -> Group:
        """Prompt n and its responses, those of ``opponents`` after them, as a judge compares them."""
        messages = tuple(Message.unpacked(**message) for message in self.text["prompt"][n].as_py())
        texts = self.texts(n) + (opponents.texts(n) if opponents else [])
        return Group(messages, tuple(texts), where=self.text["where"][n].as_py())

    def example(self, n: int) -> Example:
        """Prompt n and its responses; every other field is 0."""
        responses = tuple(self.response_tokens[n * self.count + k] for k in range(self.count))
        nothing = tuple(np.zeros(len(tokens), np.float32) for tokens in responses)
        none, square = np.zeros(self.count, np.float32), np.zeros((self.count, self.count), np.float32)
        prompt_id, prompt = int(self.prompt_ids[n]), self.prompt_tokens[n]
        return Example(prompt_id, prompt, responses, nothing, nothing, none, none, none, square)


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
) -> Samples:
    """K responses to every prompt, drawn or read back.

    Raises:
        RolloutFailed: an endpoint gave up; its answers are kept, and are not asked for again.
    """
    rollout = functools.cache(open_rollout)

    def compute(part: Sequence[EncodedPrompt]) -> list[dict[str, Any]]:
        between()
        kept = {row["prompt_id"]: row for row in _read_kept(directory)}
        asked = [prompt for prompt in part if prompt.number not in kept]
        if asked:
            try:
                drawn = rollout()([p.prompt.messages for p in asked], seed, [p.number for p in asked])
            except RolloutFailed as error:
                answered = [_sample_row(asked[place], found) for place, found in error.kept.items()]
                tables.write(directory / KEPT, [*kept.values(), *answered], tables.SAMPLES)
                raise
            kept |= {p.number: _sample_row(p, found) for p, found in zip(asked, drawn, strict=True)}
        return [kept[prompt.number] for prompt in part]

    table = tables.stage(directory, tables.SAMPLES, tables.chunks(prompts, prompts_a_file), compute, facts)
    if is_first_host():
        (directory / KEPT).unlink(missing_ok=True)
    return Samples.of(table)


def _read_kept(directory: Path) -> list[dict[str, Any]]:
    path = directory / KEPT
    return tables.read(path, tables.SAMPLES).to_pylist() if path.exists() else []


def _sample_row(prompt: EncodedPrompt, found: Rollouts) -> dict[str, Any]:
    return {
        "prompt_id": prompt.number,
        "where": prompt.prompt.where,
        "prompt": [message.packed() for message in prompt.prompt.messages],
        "prompt_tokens": prompt.tokens,
        "responses": list(found.texts),
        "response_tokens": list(map(np.asarray, found.tokens)),
        "logprobs": None if found.logprobs is None else list(map(np.asarray, found.logprobs)),
        "stopped": list(found.stopped),
    }


def scores(
    directory: Path,
    sampled: Samples,
    open_scorer: Callable[[], Judge],
    *,
    prompts_a_file: int,
    facts: dict[str, str],
    between: Progress,
    opponents: Samples | None = None,
) -> pa.Table:
    """Every pair of every prompt's responses, compared or read back.

    Args:
        opponents: of the same prompts; their responses are compared too, after those of ``sampled``.

    Raises:
        ValueError: the scorer gave a NaN or a matrix that is not skew-symmetric; the samples stay.
    """
    scorer = functools.cache(open_scorer)

    def compute(part: Sequence[int]) -> list[dict[str, Any]]:
        between()
        groups, name = [sampled.group(n, opponents) for n in part], judge_name(scorer())
        verdicts = list(scorer()(groups, "all"))
        if cut := sum(verdict.truncated for verdict in verdicts):
            logging.warning("%s: %d of %d prompts or their responses were cut to the window", name, cut, len(verdicts))
        matrices = [
            skew_symmetric(verdict.scores.astype(np.float32), verdict.tau, f"{name}: {group.where}")
            for group, verdict in zip(groups, verdicts, strict=True)
        ]
        known = response_facts(np.stack(matrices), verdicts[0].tau)
        return [
            {"prompt_id": sampled.prompt_ids[n], "scores": list(matrix), "tau": verdict.tau}
            | _embedding(verdict)
            | shares
            for n, matrix, verdict, shares in zip(part, matrices, verdicts, known, strict=True)
        ]

    return tables.stage(directory, tables.SCORES, tables.chunks(range(len(sampled)), prompts_a_file), compute, facts)


def _embedding(verdict: Verdict) -> dict[str, Any]:
    """The columns of a preference embedding and its gate, which a reward alone, a single number, is not."""
    whole = None if verdict.embedding is None or verdict.embedding.shape[-1] == 1 else verdict.embedding
    return {
        name: None if array is None else list(array) for name, array in (("embedding", whole), ("scale", verdict.scale))
    }


def logprobs(
    directory: Path,
    sampled: Samples,
    policy: OpenDecoder,
    mesh: Mesh,
    *,
    batch: int,
    prompts_a_file: int,
    facts: dict[str, str],
    between: Progress,
) -> Ragged:
    """log π of every response's tokens under ``policy``, computed ``batch`` prompts at a time or read back.

    Response k to prompt n is array n·K + k.
    """
    tokens = sampled.prompt_tokens.lengths + sampled.lengths.sum(axis=1)
    shape = policy_shape(batch, tokens.max(), sampled.count, sampled.lengths.max())

    @functools.cache
    def forward():
        params = {"decoder": policy.load()}
        run = jax.jit(
            lambda params, rows: response_logprobs(policy.model, params, rows), out_shardings=replicated(mesh)
        )
        return functools.partial(run, params)

    def compute(part: Sequence[int]) -> list[dict[str, Any]]:
        rows = []
        for some in tables.chunks(part, batch):
            between()
            examples = [sampled.example(n) for n in some]
            found = np.asarray(forward()(put_whole_batch(mesh, assemble_policy(examples, shape))))
            for example, values in zip(examples, found[: len(examples)], strict=True):
                of_responses = zip(values, example.responses, strict=False)  # the shape may hold more of them
                logprobs = [row[: len(response)] for row, response in of_responses]
                rows.append({"prompt_id": example.prompt_id, "logprobs": logprobs})
        return rows

    parts = tables.chunks(range(len(sampled)), prompts_a_file)
    return Ragged.of(tables.stage(directory, tables.LOGPROBS, parts, compute, facts)["logprobs"])
