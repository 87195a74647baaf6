"""A saved model, ready to judge."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from gpmjax.checks import whole
from gpmjax.data.chat import ChatFormat
from gpmjax.data.questions import QuestionFormat, response_format
from gpmjax.feature_store import FeatureStore
from gpmjax.files import fingerprint
from gpmjax.hub import load_preference_model, open_source
from gpmjax.judges.embedding import EmbeddingJudge
from gpmjax.judges.feature_reader import FeatureReader, Features, decoder_fingerprint
from gpmjax.judges.forward import Scorer, make_scorer
from gpmjax.judges.judge import Judge
from gpmjax.judges.pairwise import PairwiseJudge
from gpmjax.judges.rationales import RationalePlan, RationaleReader
from gpmjax.judges.readout import PackedReader
from gpmjax.models.attention.grouped_query import AUTO, preferred
from gpmjax.models.config import DecoderConfig, Runtime
from gpmjax.models.precision import full_precision
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec
from gpmjax.models.transformer import Decoder
from gpmjax.sampling.generate import generate
from gpmjax.sampling.logits import SamplingPlan, textless
from gpmjax.sharding import batch_sharding, make_mesh, place_leaf, replicated

DEFAULT_WINDOW = 2048


@dataclasses.dataclass(frozen=True)
class JudgePlan:
    """A model and how it is read."""

    model: str
    """Anything `gpmjax.hub.open_source` opens."""
    declare: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of a PreferenceSpec that the checkpoint does not say itself: gate, normalise, tau, question, …"""
    max_length: int = 0
    """0: 2,048, or the model's positions where it has fewer. Tokens of a prompt with one response, or of a question; of longer ones the excess is cut, the response last."""
    rows_per_batch: int = 8
    """Changes memory and speed. In float32 scores move by no more than 1e-5 of the largest one; in bfloat16 they do move."""
    dtype: str = "float32"
    template: str = "chat"
    attention: str = AUTO
    """See `gpmjax.models.attention.grouped_query`; "auto" is its ``preferred``. Changes memory and speed, and scores as ``rows_per_batch`` does."""
    order: str = "both"
    """Of the pairs put to a pairwise model: "both", or "shuffled", which is half the work."""
    symmetry: str = "average"
    """Of a pairwise model asked in both orders, see `pairwise_judge.SYMMETRIES`."""
    rationales: RationalePlan | None = None
    """How the model thinks before its verdict; None: it answers at once."""
    feature_cache: str = ""
    """A directory that keeps hidden states, which models of equal backbones share; empty: none is kept. Changes speed, not scores."""
    tokenizer: str = ""
    """Where the tokenizer comes from, for models without one that can be read; empty: from ``model``."""


@dataclasses.dataclass(frozen=True)
class OpenModel:
    """A preference model in memory, jitted, with all that its plan says of how it is read."""

    model: PreferenceModel
    params: Any
    mesh: Mesh
    scorer: Scorer
    format: ChatFormat | QuestionFormat
    """Asks about pairs in both orders."""
    spec: PreferenceSpec
    rows_per_batch: int
    """A multiple of the devices."""
    identity: dict[str, Any]
    """See `judging.Judge.identity`."""
    max_length: int


def open_model(plan: JudgePlan) -> OpenModel:
    """The model that the plan names, its weights loaded.

    Raises:
      FileNotFoundError, ValueError: one line naming the model, or the field and what is allowed.
    """
    mesh = make_mesh()
    runtime = Runtime(
        dtype=plan.dtype, attention=preferred(plan.attention), mesh=mesh if mesh.size > 1 else None
    ).validate()
    source = open_source(plan.model)
    window = window_of(plan.max_length, source.config)
    loaded = load_preference_model(source, dict(plan.declare), place_leaf(mesh), tokenizer=plan.tokenizer)
    spec = loaded.spec
    chat = ChatFormat(loaded.tokenizer, template=plan.template, **spec.encoding())
    identity = {
        "model": plan.model,
        "fingerprint": fingerprint(source.files),
        "spec": spec.to_dict(),
        "max_length": window,
        "dtype": plan.dtype,
        "template": plan.template,
    } | ({"tokenizer": plan.tokenizer} if plan.tokenizer else {})
    model = PreferenceModel(loaded.config, spec, runtime)
    return OpenModel(
        model=model,
        params=loaded.params,
        mesh=mesh,
        scorer=make_scorer(model, loaded.params, mesh),
        format=response_format(chat, spec.question, spec.kind),
        spec=spec,
        rows_per_batch=-(-plan.rows_per_batch // mesh.size) * mesh.size,
        identity=identity,
        max_length=window,
    )


def window_of(asked: int, config: DecoderConfig) -> int:
    """Tokens of the longest sequence that a model is given: what is asked for, or by default what it can read.

    Raises ValueError for a window beyond the model's positions, or of less than 2 tokens.
    """
    if asked:
        whole("max_length", asked, 2)
        config.require_positions("max_length", asked)
    return asked or min(DEFAULT_WINDOW, config.max_positions)


def open_judge(plan: JudgePlan) -> Judge:
    """The same as a judge of groups; raises as ``open_model`` and ``as_judge`` do."""
    return as_judge(open_model(plan), plan)


def as_judge(model: OpenModel, plan: JudgePlan) -> Judge:
    """An opened model as the judge that its plan describes.

    Raises:
      ValueError: rationales of a model that does not read verdicts, or with a feature cache, which never holds new rationales.
    """
    identity = dict(model.identity)
    read = PackedReader(model.scorer, model.rows_per_batch)
    if plan.feature_cache:
        read = _cached(model, plan)
    if plan.rationales is not None:
        read = _thinking(model, read, plan.rationales.validate())
        identity["rationales"] = dataclasses.asdict(plan.rationales)
    if model.spec.kind == "pairwise":
        identity |= {"order": plan.order, "symmetry": plan.symmetry}
        questions = dataclasses.replace(model.format, order=plan.order)
        return PairwiseJudge(read, questions, identity, model.max_length, plan.symmetry)
    return EmbeddingJudge(read, model.format, identity, model.max_length)


def _cached(model: OpenModel, plan: JudgePlan) -> FeatureReader:
    if plan.rationales is not None:
        raise ValueError(
            f"feature_cache={plan.feature_cache!r}: must be empty with rationales, which are new texts each time"
        )
    runtime = model.model.runtime
    name = decoder_fingerprint(model.model.config, runtime.dtype, model.params["decoder"])
    encode = jax.jit(
        full_precision(
            runtime.dtype, lambda params, batch: model.model.apply({"params": params}, batch, method="features")
        ),
        in_shardings=(None, batch_sharding(model.mesh)),
        out_shardings=replicated(model.mesh),
    )
    return FeatureReader(
        features=lambda batch: Features(*encode(model.params, batch)),
        heads=model.scorer,
        store=FeatureStore(Path(plan.feature_cache), name, model.model.config.hidden_size),
        rows_per_batch=model.rows_per_batch,
    )


def _thinking(model: OpenModel, read: PackedReader, plan: RationalePlan) -> RationaleReader:
    if model.spec.head != "verdict":
        raise ValueError(
            f"rationales: need a model that is read by its verdict, head='verdict'; its head is {model.spec.head!r}"
        )
    tokenizer = model.format.tokenizer
    sampling = SamplingPlan(
        max_new_tokens=plan.max_new_tokens,
        temperature=plan.temperature,
        top_p=plan.top_p,
        stop_tokens=(tokenizer.eos_token_id,),
        textless=textless(tokenizer, model.model.config.vocab_size),
    )
    draw = lambda prompts, names: generate(
        Decoder(model.model.config, model.model.runtime),
        model.params["decoder"],
        prompts,
        samples=plan.rationales,
        plan=sampling.validate(),
        seed=plan.seed,
        ids=names,
        mesh=model.mesh,
        rows=read.rows_per_batch,
    )
    return RationaleReader(read, draw, tokenizer, plan, model.spec.verdicts)
