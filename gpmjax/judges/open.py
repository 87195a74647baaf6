"""`open_judge` opens the judge that a `JudgeConfig` names."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gpmjax.config.judge import JudgeConfig, ScorerConfig
from gpmjax.data.chat import ChatFormat
from gpmjax.data.questions import QuestionFormat, response_format
from gpmjax.feature_store import FeatureStore
from gpmjax.files import fingerprint
from gpmjax.hub import load_preference_model, open_source, tokenizer_for
from gpmjax.hub.declaration import resolved, saved_spec
from gpmjax.judges.chat import chat_judge, open_endpoint
from gpmjax.judges.embedding import EmbeddingJudge
from gpmjax.judges.feature_reader import FeatureReader, Features, decoder_fingerprint
from gpmjax.judges.forward import Scorer, make_scorer
from gpmjax.judges.function import function_judge
from gpmjax.judges.judge import Judge
from gpmjax.judges.pairwise import PairwiseJudge
from gpmjax.judges.rationales import RationaleReader, rationales_identity
from gpmjax.judges.readout import PackedReader, Reader
from gpmjax.judges.row_reader import DistinctReader, RowReader, scoring_program
from gpmjax.models.attention.grouped_query import preferred
from gpmjax.models.config import DecoderConfig, Runtime
from gpmjax.models.precision import full_precision
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec
from gpmjax.models.transformer import Decoder
from gpmjax.sampling.generate import TokenSamples, generate
from gpmjax.sampling.logits import SamplingPlan, textless
from gpmjax.sharding import batch_sharding, make_mesh, place_leaf, replicated, shared_rows


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


def open_scorer(config: ScorerConfig, mesh: Mesh, iteration: int | None = None, answers: str | Path = "") -> Judge:
    """A judge as a policy is trained by it: equal responses are read once and share the score; batches have few shapes.

    Args:
      iteration: of training, by which a hybrid's γ is scheduled; None: all of γ, as where policies are compared.
      answers: the file that keeps a chat model's answers, where the config names none.

    Raises:
      FileNotFoundError, ValueError: as `open_judge`.
    """
    if config.function or config.endpoint:
        return open_judge(dataclasses.replace(config, answer_cache=config.answer_cache or str(answers)))
    share = 1.0 if iteration is None else config.cyclic_share(iteration)
    return as_judge(open_model(config, mesh, share=share, name="config.scorer."), config, training=True)


def look_at_scorer(config: ScorerConfig, name: str) -> None:
    """Refuses a scorer that could not be opened. Reads no weights, so that this can be done before anything is sampled.

    Args:
      config: the scorer.
      name: of the config's section, for messages.

    Raises:
      FileNotFoundError, ValueError: as `open_scorer`.
    """
    if config.function:
        function_judge(config, f"config.{name}.")
    if config.model:
        source = open_source(config.model)
        spec, tokenizer = saved_spec(source, config.declared()), tokenizer_for(source, config.tokenizer)
        _check(config, source.config, spec, f"config.{name}.")
        chat = ChatFormat(tokenizer, template=config.template, **spec.encoding())
        response_format(chat, resolved(spec, tokenizer).question, spec.kind)


def _check(config: JudgeConfig, decoder: DecoderConfig, spec: PreferenceSpec, name: str) -> int:
    """The judge's window in tokens; refuses what does not go with the model. ``name`` stands before a field's in
    messages."""
    window = config.window(decoder, f"{name}max_length")
    if config.rationales and spec.head != "verdict":
        raise ValueError(
            f"{name}rationales={config.rationales}: need a model that is read by its verdict, head='verdict'; its head "
            f"is {spec.head!r}"
        )
    if isinstance(config, ScorerConfig) and config.cyclic_until > 1 and spec.kind != "hybrid":
        raise ValueError(
            f"{name}cyclic_until={config.cyclic_until}: must be 1 with {config.model}, whose kind is {spec.kind!r}; "
            f"only a hybrid model has a cyclic part of its own"
        )
    return window


def open_model(config: JudgeConfig, mesh: Mesh | None = None, *, share: float = 1.0, name: str = "") -> OpenModel:
    """The model that a config names, its weights loaded.

    Args:
      mesh: what it runs on; None: all devices.
      share: of a hybrid's γ.
      name: what stands before a field's name in messages.

    Raises:
      FileNotFoundError, ValueError: one line naming the model, or the field and what is allowed.
    """
    mesh = make_mesh() if mesh is None else mesh
    runtime = Runtime(
        dtype=config.dtype, attention=preferred(config.attention), mesh=mesh if mesh.size > 1 else None
    ).validate()
    source = open_source(config.model)
    config.window(source.config, f"{name}max_length")  # before the weights are read
    loaded = load_preference_model(source, config.declared(), place_leaf(mesh), tokenizer=config.tokenizer)
    window = _check(config, source.config, loaded.spec, name)
    spec = dataclasses.replace(loaded.spec, gamma=loaded.spec.gamma * share)
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
        rows_per_batch=shared_rows(mesh, config.rows),
        identity=identity,
        max_length=window,
    )


def as_judge(model: OpenModel, config: JudgeConfig, *, training: bool = False) -> Judge:
    """An opened model as the judge that its config describes; ``training`` as in `open_scorer`."""
    identity = dict(model.identity)
    read: Reader = PackedReader(model.scorer, model.rows_per_batch)
    if config.feature_cache:
        read = _cached(model, config)
    if config.rationales:
        read = _thinking(model, read, config)
        identity["rationales"] = rationales_identity(config)
    if training:
        if isinstance(read, PackedReader):
            program = scoring_program(model.model, model.params, model.mesh)
            read = RowReader(program, model.mesh, model.rows_per_batch)
        else:
            read = DistinctReader(read)
    if model.spec.kind == "pairwise":
        identity |= {"order": config.order, "symmetry": config.symmetry}
        questions: Any = model.format
        questions = dataclasses.replace(questions, order=config.order)
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


def _thinking(model: OpenModel, read: Reader, config: JudgeConfig) -> RationaleReader:
    tokenizer = model.format.tokenizer
    sampling = SamplingPlan(
        max_new_tokens=config.rationale_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        stop_tokens=(tokenizer.eos_token_id,),
        textless=textless(tokenizer, model.model.config.vocab_size),
    )

    def draw(prompts: Sequence[np.ndarray], names: Sequence[int]) -> TokenSamples:
        return generate(
            Decoder(model.model.config, model.model.runtime),
            model.params["decoder"],
            prompts,
            samples=config.rationales,
            plan=sampling.validate(),
            seed=config.rationale_seed,
            ids=names,
            mesh=model.mesh,
            rows=model.rows_per_batch,
        )

    return RationaleReader(read, draw, tokenizer, config, model.spec.verdicts)
