"""Who compares a policy's responses: a frozen preference model, or a function of the user's.

K responses take K forward passes with the prompt encoded once, whatever the number of pairs (a pairwise model takes K(K − 1)).
What reads the same among them, equal texts above all, is scored once and shares the score: read twice, the scores would differ by
rounding, and a policy gradient or an optimiser that normalises would make real steps of that. Every matrix is checked before it is
used: a NaN or a matrix that is not skew-symmetric would train a policy towards nothing in particular.
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
from gpmjax.config.improve import ScorerConfig
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodedGroup, encode_groups
from gpmjax.data.groups import Group
from gpmjax.data.prompts import Prompt
from gpmjax.data.questions import response_format
from gpmjax.hub.declaration import resolved, saved_spec
from gpmjax.models.config import DecoderConfig, Runtime
from gpmjax.models.precision import full_precision
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.scores import PairwiseOutput, group_scores, prompt_scale
from gpmjax.models.spec import EMBEDDING_KINDS
from gpmjax.sharding import place_leaf, put_whole_batch, replicated

SKEW_TOLERANCE = 1e-3
"""Of the largest score; a bfloat16 model's products are rounded, not wrong."""
SMALLEST_GAP = 1e-5
"""Log-odds: less is not worth a refusal, where all of a prompt's scores are next to 0."""
DEFAULT_WINDOW = 4096
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


def open_scorer(config: ScorerConfig, mesh: Mesh, iteration: int | None = None) -> Scorer:
    """The scorer that a config names, its weights loaded; as an iteration of training plays with it, or for judging.

    Raises:
        FileNotFoundError, ValueError: no such model or function; a model whose reading must be declared.
    """
    if not config.model:
        return FunctionScorer(config)
    return PreferenceScorer(config, mesh, 1.0 if iteration is None else config.cyclic_share(iteration))


def look_at_scorer(config: ScorerConfig, name: str) -> None:
    """Refuses a scorer that could not be opened; reads no weights, so that this can be done before anything is sampled.

    Args:
        config: the scorer.
        name: of the config's section, for messages.

    Raises:
        FileNotFoundError, ValueError: as ``open_scorer``, or a window beyond the model's positions.
    """
    if not config.model:
        FunctionScorer(config)
        return
    source = hub.open_source(config.model)
    spec, tokenizer = saved_spec(source, config.declared() or None), hub.tokenizer_for(source, config.tokenizer)
    _window(config, source.config, name)
    chat = ChatFormat(tokenizer, template=config.template, **spec.encoding())
    response_format(chat, resolved(spec, tokenizer).question, spec.kind)


def _window(config: ScorerConfig, decoder: DecoderConfig, name: str) -> int:
    decoder.require_positions(f"config.{name}.max_length", config.max_length)
    return config.max_length or min(DEFAULT_WINDOW, decoder.max_positions)


class FunctionScorer:
    """``function(prompts, responses) → [N, K, K]`` log-odds, named "module:function" and found on the Python path.

    It is given the conversations, as lists of {"role", "content"}, and lists of K texts. Where a text is there twice, the scores
    of its first place hold for both.
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
        found = checked(Scores(np.asarray(given, np.float32), self._tau), prompts, len(responses[0]), self._label)
        first = np.array([[texts.index(text) for text in texts] for texts in map(list, responses)])
        return found._replace(scores=_shared(found.scores, first))


class PreferenceScorer:
    """A saved preference model, general, Bradley–Terry, hybrid or pairwise, frozen.

    ``cyclic_share`` multiplies the γ of a hybrid model.
    """

    def __init__(self, config: ScorerConfig, mesh: Mesh, cyclic_share: float = 1.0):
        loaded = hub.load_preference_model(
            config.model, config.declared() or None, place_leaf(mesh), tokenizer=config.tokenizer
        )
        self._window = _window(config, loaded.config, "scorer")
        self._spec = loaded.spec if not config.tau else dataclasses.replace(loaded.spec, tau=config.tau)
        if config.cyclic_until > 1 and self._spec.kind != "hybrid":
            raise ValueError(
                f"config.scorer.cyclic_until={config.cyclic_until}: must be 1 with {config.model}, whose kind is {self._spec.kind!r}; "
                f"only a hybrid model has a cyclic part of its own"
            )
        self._spec = dataclasses.replace(self._spec, gamma=self._spec.gamma * cyclic_share)
        runtime = Runtime(
            dtype=config.dtype, attention=config.attention, mesh=mesh if mesh.size > 1 else None
        ).validate()
        self._model = PreferenceModel(loaded.config, self._spec, runtime)
        self._params, self._mesh, self._config = loaded.params, mesh, config
        chat = ChatFormat(loaded.tokenizer, template=config.template, **self._spec.encoding())
        self._format = response_format(chat, self._spec.question, self._spec.kind)
        places = mesh.shape["data"] * mesh.shape["fsdp"]
        self._rows = -(-config.rows // places) * places

    @functools.cached_property
    def _apply(self):
        def apply(params, batch):
            output = self._model.apply({"params": params}, batch)
            if isinstance(output, PairwiseOutput):
                return output, None
            scores = group_scores(output)
            # Skew-symmetric by its formula. Where all texts are one, the rounding of s(y ≻ y) = 0 is all that there is.
            return output, (scores - scores.mT) / 2

        return jax.jit(full_precision(self._config.dtype, apply), out_shardings=replicated(self._mesh))

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        groups = [Group(p.messages, tuple(texts), where=p.where) for p, texts in zip(prompts, responses, strict=True)]
        encoded, report = encode_groups(groups, self._format, max_length=self._window)
        if cut := report.cut_line(self._config.max_length):
            logging.warning("config.scorer: %s", cut)
        parts = [self._score(encoded[start : start + self._rows]) for start in range(0, len(encoded), self._rows)]
        embedding, scale, scores = (
            None if parts[0][field] is None else np.concatenate([part[field] for part in parts]) for field in range(3)
        )
        found = Scores(scores, float(self._tau), embedding if self._spec.kind in EMBEDDING_KINDS else None, scale)
        return checked(found, prompts, len(responses[0]), self._config.model)

    def _score(self, groups: Sequence[EncodedGroup]) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray]:
        """Embeddings, the prompts' gates, and scores of at most a batch of groups."""
        responses, count = len(groups[0].responses), len(groups)
        distinct, places = zip(*map(_read_once, groups), strict=True)
        tokens = max(group.size[0] for group in distinct)
        shape = BatchShape(self._rows, -(-tokens // SLOTS_STEP) * SLOTS_STEP, responses, 1)
        rows = [[group] for group in distinct] + [[]] * (self._rows - count)
        output, scores = self._apply(self._params, put_whole_batch(self._mesh, assemble(rows, shape)))
        self._tau = float(output.tau)
        row, at = np.arange(count)[:, None], np.array(places)
        if isinstance(output, PairwiseOutput):
            return None, None, np.asarray(group_scores(output._replace(value=np.asarray(output.value)[row, at])))
        scale = None if output.scale is None else prompt_scale(np.asarray(output.scale)[row, at])
        return np.asarray(output.embedding)[row, at], scale, _shared(np.asarray(scores)[:count], at)


def _read_once(group: EncodedGroup) -> tuple[EncodedGroup, list[int]]:
    """The group with each distinct sequence of tokens once, and where each of its responses is among them."""
    first: dict[tuple[int, bytes], int] = {}
    places = [
        first.setdefault((group.own(n), tokens.tobytes()), len(first)) for n, tokens in enumerate(group.responses)
    ]
    kept = [places.index(n) for n in range(len(first))]
    own = tuple(group.own_prompt[n] for n in kept) if group.own_prompt else ()
    return group._replace(responses=tuple(group.responses[n] for n in kept), own_prompt=own), places


def _shared(scores: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Scores [N, K, K] of K responses, of which response i is what the given scores [N, R, R] have at ``places`` [N, K] i."""
    return scores[np.arange(len(places))[:, None, None], places[:, :, None], places[:, None, :]]


def checked(found: Scores, prompts: Sequence[Prompt], responses: int, label: str) -> Scores:
    """``found``, made exactly skew-symmetric.

    Raises:
        ValueError: another shape than [N, K, K], a score that is not finite, or a matrix that is not skew-symmetric;
            one line naming the scorer and the prompt.
    """
    scores = found.scores
    if scores.shape != (len(prompts), responses, responses):
        raise ValueError(
            f"{label}: gave scores of shape {scores.shape}, expected {(len(prompts), responses, responses)}"
        )
    for prompt, matrix in zip(prompts, scores, strict=True):
        if not np.isfinite(matrix).all():
            i, j = np.argwhere(~np.isfinite(matrix))[0]
            raise ValueError(
                f"{label}: {prompt.where}: score of responses {i} and {j} is {matrix[i, j]}; it must be finite"
            )
        gap = np.abs(matrix + matrix.T)
        if gap.max() > max(SKEW_TOLERANCE * np.abs(matrix).max(), SMALLEST_GAP * found.tau):
            i, j = np.unravel_index(gap.argmax(), gap.shape)
            raise ValueError(
                f"{label}: {prompt.where}: s({i} ≻ {j}) = {matrix[i, j]:.6g} and s({j} ≻ {i}) = {matrix[j, i]:.6g}; "
                f"scores must be skew-symmetric, one the negative of the other"
            )
    return found._replace(scores=(scores - scores.swapaxes(1, 2)) / 2)
