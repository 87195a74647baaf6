"""Who compares a policy's responses: a frozen preference model, or a function of the user's.

K responses take K forward passes with the prompt encoded once, whatever the number of pairs (a pairwise model takes K(K − 1)). Every matrix is checked
before it is used: a NaN or a matrix that is not skew-symmetric would train a policy towards nothing in particular.
"""

import dataclasses
import functools
import importlib
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from gpmjax import hub
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodedGroup, encode_groups
from gpmjax.data.groups import Group
from gpmjax.data.prompts import Prompt
from gpmjax.data.questions import response_format
from gpmjax.improve_config import ScorerConfig
from gpmjax.models.config import Runtime
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.scores import PairwiseOutput, group_scores, prompt_scale
from gpmjax.sharding import place_leaf, put_whole_batch, replicated

SKEW_TOLERANCE = 1e-3
"""Of the largest score; a bfloat16 model's products are rounded, not wrong."""
SLOTS_STEP = 64
"""Rows are padded to a multiple of this, so that few shapes are compiled."""


class Scores(NamedTuple):
    """All pairs of K responses to each of N prompts."""

    scores: np.ndarray
    """[N, K, K] float32: s(i ≻ j), not divided by τ."""
    tau: float
    embedding: np.ndarray | None = None
    """[N, K, 2k] float32, where there are embeddings."""
    scale: np.ndarray | None = None
    """[N, k] float32: the prompt's λ, where there is a gate."""


class Scorer(Protocol):
    """Compares every response to a prompt with every other; each prompt has equally many."""

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores: ...


def open_scorer(config: ScorerConfig, mesh: Mesh) -> Scorer:
    """The scorer that a config names, its weights loaded.

    Raises:
        FileNotFoundError, ValueError: no such model or function; a model whose reading must be declared.
    """
    return PreferenceScorer(config, mesh) if config.model else FunctionScorer(config)


class FunctionScorer:
    """``function(prompts, responses) → [N, K, K]`` log-odds, named "module:function" and found on the Python path.

    It is given the conversations, as lists of {"role", "content"}, and lists of K texts.
    """

    def __init__(self, config: ScorerConfig):
        module, _, name = config.function.partition(":")
        try:
            self._function: Callable = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"config.scorer.function={config.function!r}: cannot be imported ({error})") from error
        self._label, self._tau = config.function, config.tau or 1.0

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        conversations = [[message.as_dict() for message in prompt.messages] for prompt in prompts]
        given = self._function(conversations, [list(texts) for texts in responses])
        return checked(Scores(np.asarray(given, np.float32), self._tau), prompts, len(responses[0]), self._label)


class PreferenceScorer:
    """A saved preference model, general, Bradley–Terry or pairwise, frozen."""

    def __init__(self, config: ScorerConfig, mesh: Mesh):
        loaded = hub.load_preference_model(config.model, config.declared() or None, place_leaf(mesh))
        self._spec = loaded.spec if not config.tau else dataclasses.replace(loaded.spec, tau=config.tau)
        runtime = Runtime(dtype=config.dtype, attention=config.attention, mesh=mesh if mesh.size > 1 else None).validate()
        self._model = PreferenceModel(loaded.config, self._spec, runtime)
        self._params, self._mesh, self._config = loaded.params, mesh, config
        chat = ChatFormat(loaded.tokenizer, template=config.template)
        self._format = response_format(chat, self._spec.question, self._spec.kind)
        places = mesh.shape["data"] * mesh.shape["fsdp"]
        self._rows = -(-config.rows // places) * places

    @functools.cached_property
    def _apply(self):
        def apply(params, batch):
            output = self._model.apply({"params": params}, batch)
            return output, group_scores(output)

        return jax.jit(apply, out_shardings=replicated(self._mesh))

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        groups = [Group(p.messages, tuple(texts), where=p.where) for p, texts in zip(prompts, responses, strict=True)]
        encoded, report = encode_groups(groups, self._format, max_length=self._config.max_length)
        if cut := report.cut_line(self._config.max_length):
            logging.warning("config.scorer: %s", cut)
        parts = [self._score(encoded[start : start + self._rows]) for start in range(0, len(encoded), self._rows)]
        embedding, scale, scores = (
            None if parts[0][field] is None else np.concatenate([part[field] for part in parts]) for field in range(3)
        )
        found = Scores(scores, float(self._tau), embedding if self._spec.kind == "gpm" else None, scale)
        return checked(found, prompts, len(responses[0]), self._config.model)

    def _score(self, groups: Sequence[EncodedGroup]) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray]:
        """Embeddings, the prompts' gates, and scores of at most a batch of groups."""
        tokens, responses, _ = np.max([group.size for group in groups], axis=0)
        shape = BatchShape(self._rows, -(-int(tokens) // SLOTS_STEP) * SLOTS_STEP, int(responses), 1)
        rows = [[group] for group in groups] + [[]] * (self._rows - len(groups))
        output, scores = self._apply(self._params, put_whole_batch(self._mesh, assemble(rows, shape)))
        self._tau = float(output.tau)
        count = len(groups)
        if isinstance(output, PairwiseOutput):
            return None, None, np.asarray(scores)[:count]
        scale = None if output.scale is None else prompt_scale(np.asarray(output.scale)[:count, :responses])
        return np.asarray(output.embedding)[:count], scale, np.asarray(scores)[:count]


def checked(found: Scores, prompts: Sequence[Prompt], responses: int, label: str) -> Scores:
    """``found``, made exactly skew-symmetric.

    Raises:
        ValueError: another shape than [N, K, K], a score that is not finite, or a matrix that is not skew-symmetric;
            one line naming the scorer and the prompt.
    """
    scores = found.scores
    if scores.shape != (len(prompts), responses, responses):
        raise ValueError(f"{label}: gave scores of shape {scores.shape}, expected {(len(prompts), responses, responses)}")
    for prompt, matrix in zip(prompts, scores, strict=True):
        if not np.isfinite(matrix).all():
            i, j = np.argwhere(~np.isfinite(matrix))[0]
            raise ValueError(f"{label}: {prompt.where}: score of responses {i} and {j} is {matrix[i, j]}; it must be finite")
        gap = np.abs(matrix + matrix.T)
        if gap.max() > SKEW_TOLERANCE * max(np.abs(matrix).max(), 1e-6):
            i, j = np.unravel_index(gap.argmax(), gap.shape)
            raise ValueError(
                f"{label}: {prompt.where}: s({i} ≻ {j}) = {matrix[i, j]:.6g} and s({j} ≻ {i}) = {matrix[j, i]:.6g}; "
                f"scores must be skew-symmetric, one the negative of the other"
            )
    return found._replace(scores=(scores - scores.swapaxes(1, 2)) / 2)
