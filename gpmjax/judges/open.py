"""`open_judge` opens the judge that a `JudgeConfig` names."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from gpmjax.config.judge import JudgeConfig
from gpmjax.data.chat import ChatFormat
from gpmjax.data.questions import QuestionFormat, response_format
from gpmjax.feature_store import FeatureStore
from gpmjax.files import fingerprint
from gpmjax.hub import load_preference_model, open_source
from gpmjax.judges.chat import chat_judge, open_endpoint
from gpmjax.judges.embedding import EmbeddingJudge
from gpmjax.judges.feature_reader import FeatureReader, Features, decoder_fingerprint
from gpmjax.judges.forward import Scorer, make_scorer
from gpmjax.judges.function import function_judge
from gpmjax.judges.judge import Judge
from gpmjax.judges.pairwise import PairwiseJudge
from gpmjax.judges.rationales import RationaleReader, rationales_identity
from gpmjax.judges.readout import PackedReader
from gpmjax.models.attention.grouped_query import preferred
from gpmjax.models.config import Runtime
from gpmjax.models.precision import full_precision
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec
from gpmjax.models.transformer import Decoder
from gpmjax.sampling.generate import generate
from gpmjax.sampling.logits import SamplingPlan, textless
from gpmjax.sharding import batch_sharding, make_mesh, place_leaf, replicated


@dataclasses.dataclass(frozen=True)
class OpenModel:
    """A preference model in memory, jitted, with all that its config says of how it is read."""

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
    """See `Judge.identity`."""
    max_length: int


def open_model(config: JudgeConfig) -> OpenModel:
    """The model that a config names, its weights loaded.

    Raises:
      FileNotFoundError, ValueError: one line naming the model, or the field and what is allowed.
    """
    config.validate()
    mesh = make_mesh()
    runtime = Runtime(
        dtype=config.dtype, attention=preferred(config.attention), mesh=mesh if mesh.size > 1 else None
    ).validate()
    source = open_source(config.model)
    window = config.window(source.config)
    loaded = load_preference_model(source, config.declared(), place_leaf(mesh), tokenizer=config.tokenizer)
    spec = loaded.spec
    chat = ChatFormat(loaded.tokenizer, template=config.template, **spec.encoding())
    identity = {
        "model": config.model,
        "fingerprint": fingerprint(source.files),
        "spec": spec.to_dict(),
        "max_length": window,
        "dtype": config.dtype,
        "template": config.template,
    } | ({"tokenizer": config.tokenizer} if config.tokenizer else {})
    model = PreferenceModel(loaded.config, spec, runtime)
    return OpenModel(
        model=model,
        params=loaded.params,
        mesh=mesh,
        scorer=make_scorer(model, loaded.params, mesh),
        format=response_format(chat, spec.question, spec.kind),
        spec=spec,
        rows_per_batch=-(-config.rows // mesh.size) * mesh.size,
        identity=identity,
        max_length=window,
    )


def open_judge(config: JudgeConfig) -> Judge:
    """The judge that a config names: a model, its weights loaded, a function, or a chat model behind a server.

    Raises:
      FileNotFoundError, ValueError: one line naming the model, or the field and what is allowed.
    """
    config.validate()
    if config.function:
        return function_judge(config)
    if config.endpoint:
        return chat_judge(config, open_endpoint(config))
    return as_judge(open_model(config), config)


def as_judge(model: OpenModel, config: JudgeConfig) -> Judge:
    """An opened model as the judge that its config describes.

    Raises:
      ValueError: rationales of a model that does not read verdicts.
    """
    identity = dict(model.identity)
    read = PackedReader(model.scorer, model.rows_per_batch)
    if config.feature_cache:
        read = _cached(model, config)
    if config.rationales:
        read = _thinking(model, read, config)
        identity["rationales"] = rationales_identity(config)
    if model.spec.kind == "pairwise":
        identity |= {"order": config.order, "symmetry": config.symmetry}
        questions = dataclasses.replace(model.format, order=config.order)
        return PairwiseJudge(read, questions, identity, model.max_length, config.symmetry)
    return EmbeddingJudge(read, model.format, identity, model.max_length)


def _cached(model: OpenModel, config: JudgeConfig) -> FeatureReader:
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
        store=FeatureStore(Path(config.feature_cache), name, model.model.config.hidden_size),
        rows_per_batch=model.rows_per_batch,
    )


def _thinking(model: OpenModel, read: PackedReader, config: JudgeConfig) -> RationaleReader:
    if model.spec.head != "verdict":
        raise ValueError(
            f"rationales: need a model that is read by its verdict, head='verdict'; its head is {model.spec.head!r}"
        )
    tokenizer = model.format.tokenizer
    sampling = SamplingPlan(
        max_new_tokens=config.rationale_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        stop_tokens=(tokenizer.eos_token_id,),
        textless=textless(tokenizer, model.model.config.vocab_size),
    )
    draw = lambda prompts, names: generate(
        Decoder(model.model.config, model.model.runtime),
        model.params["decoder"],
        prompts,
        samples=config.rationales,
        plan=sampling.validate(),
        seed=config.rationale_seed,
        ids=names,
        mesh=model.mesh,
        rows=read.rows_per_batch,
    )
    return RationaleReader(read, draw, tokenizer, config, model.spec.verdicts)
