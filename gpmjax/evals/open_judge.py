"""A saved model, ready to judge."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gpmjax.data.chat import ChatFormat
from gpmjax.data.questions import QuestionFormat, response_format
from gpmjax.evals.embedding_judge import EmbeddingJudge
from gpmjax.evals.judging import Judge
from gpmjax.evals.pairwise_judge import PairwiseJudge
from gpmjax.evals.protocol import Scorer, make_scorer
from gpmjax.evals.readout import PackedReader
from gpmjax.files import fingerprint
from gpmjax.hub import load_preference_model, open_source
from gpmjax.models.config import Runtime
from gpmjax.models.heads import PreferenceSpec
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.sharding import make_mesh, place_leaf


@dataclasses.dataclass(frozen=True)
class JudgePlan:
    """A model and how it is read."""

    model: str
    """Anything `gpmjax.hub.open_source` opens."""
    declare: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of a PreferenceSpec that the checkpoint does not say itself: gate, normalise, tau, question, …"""
    max_length: int = 2048
    """Tokens of a prompt with one response, or of a question; longer ones are cut."""
    rows_per_batch: int = 8
    """Changes memory and speed, not scores."""
    dtype: str = "float32"
    template: str = "chat"
    order: str = "both"
    """Of the pairs put to a pairwise model: "both", or "shuffled", which is half the work."""
    symmetry: str = "average"
    """Of a pairwise model asked in both orders, see `pairwise_judge.SYMMETRIES`."""


@dataclasses.dataclass(frozen=True)
class OpenModel:
    """A preference model in memory, jitted, with all that its plan says of how it is read."""

    scorer: Scorer
    format: ChatFormat | QuestionFormat
    spec: PreferenceSpec
    rows_per_batch: int
    """A multiple of the devices."""
    identity: dict[str, Any]
    """See `judging.Judge.identity`."""


def open_model(plan: JudgePlan) -> OpenModel:
    """The model that the plan names, its weights loaded.

    Raises:
      FileNotFoundError, ValueError: one line naming the model, or the field and what is allowed.
    """
    runtime = Runtime(dtype=plan.dtype).validate()
    mesh = make_mesh()
    source = open_source(plan.model)
    loaded = load_preference_model(source, dict(plan.declare), place_leaf(mesh))
    spec = loaded.spec
    chat = ChatFormat(loaded.tokenizer, template=plan.template)
    identity = {
        "model": plan.model,
        "fingerprint": fingerprint(source.files),
        "spec": spec.to_dict(),
        "max_length": plan.max_length,
        "dtype": plan.dtype,
        "template": plan.template,
    }
    return OpenModel(
        scorer=make_scorer(PreferenceModel(loaded.config, spec, runtime), loaded.params, mesh),
        format=response_format(chat, spec.question, spec.kind, order=plan.order),
        spec=spec,
        rows_per_batch=-(-plan.rows_per_batch // mesh.size) * mesh.size,
        identity=identity | ({"order": plan.order} if spec.kind == "pairwise" else {}),
    )


def open_judge(plan: JudgePlan) -> Judge:
    """The same as a judge of groups; raises as ``open_model`` does."""
    model = open_model(plan)
    read = PackedReader(model.scorer, model.rows_per_batch)
    if model.spec.kind == "pairwise":
        identity = model.identity | {"symmetry": plan.symmetry}
        return PairwiseJudge(read, model.format, identity, plan.max_length, plan.symmetry)
    return EmbeddingJudge(read, model.format, model.identity, plan.max_length)
