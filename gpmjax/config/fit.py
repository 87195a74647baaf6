"""The config of a preference model: typed dataclasses that ``configs/*.py`` fill and command-line flags override.

The dataclasses are mutable: ``--config.model.dim=8`` assigns to a field after ``get_config()`` has returned.
``Config.validate()`` runs once, before any work; its error names the field, the value and what is allowed.
"""

import dataclasses
import math
from dataclasses import dataclass, field

from gpmjax.checks import LARGEST_FLOAT, LARGEST_INT, check_fields, number, shown
from gpmjax.config.head import HeadConfig
from gpmjax.config.parts import (
    LARGEST_SEED,
    LONGEST,
    BackboneConfig,
    CheckpointConfig,
    DistributedConfig,
    Experiment,
    MeshConfig,
    OptimizerConfig,
    at_least,
    positive,
)
from gpmjax.data.chat import TEMPLATES
from gpmjax.data.questions import ORDERS
from gpmjax.models.config import require_one_of
from gpmjax.models.spec import PreferenceSpec

BACKBONES = ("train", "frozen")
START_HEADS = ("new", "saved", "replace", "verdict")
OBJECTIVES = ("cross_entropy", "expected_error", "verdict")
REDUCTIONS = ("pairwise", "listwise")


@dataclass
class ModelConfig(HeadConfig, BackboneConfig):
    """A backbone, its head, and which of them train."""

    backbone: str = "train"
    """"train"; or "frozen": every distinct text is encoded once, its features are cached on disk, and only the heads
    train."""
    start_heads: str = "new"
    """"new" heads on a plain backbone, the "saved" heads of a preference model, or new heads that "replace" saved ones;
    "verdict": new heads that begin as the log-odds of ``verdicts``, for frozen backbones."""
    feature_cache: str = ""
    """Directory of a frozen backbone's features; empty: WORKDIR/features."""

    def as_bradley_terry(self) -> "ModelConfig":
        """The scalar baseline of this model, which differs from it in the head alone."""
        scalar = PreferenceSpec.bradley_terry()
        return dataclasses.replace(
            self,
            kind=scalar.kind,
            dim=scalar.dim,
            gate=scalar.gate,
            normalise=scalar.normalise,
            tau=scalar.tau,
            gamma=1.0,
            gate_at=scalar.gate_at,
        )

    def validate(self, name: str = "model") -> None:
        super().validate(name)
        require_one_of("config.model.backbone", self.backbone, BACKBONES)
        require_one_of("config.model.start_heads", self.start_heads, START_HEADS)
        if self.backbone == "frozen" and self.lora_rank:
            raise ValueError(f"config.model.lora_rank={self.lora_rank}: must be 0 with backbone='frozen'")
        if self.backbone == "frozen" and self.head == "verdict":
            raise ValueError(
                "config.model.head='verdict': has nothing to train with backbone='frozen'; start_heads='verdict' has"
            )
        if self.start_heads == "verdict" and not (self.head == "linear" and self.dim == 1 and self.question):
            raise ValueError("config.model.start_heads='verdict': must have a question, head='linear' and dim=1")
        self.spec()


@dataclass
class DataConfig:
    """The comparisons, and the fixed shapes that they are packed into."""

    train: tuple[str, ...] = ()
    """Sources: files ("pairs.jsonl.gz", "pairs.jsonl?column=value"), hub ids, or sets such as "builtin:letters"."""
    weights: tuple[float, ...] = ()
    """A weight for each source; empty: each source once an epoch."""
    eval: tuple[str, ...] = ()
    """Held-out sources."""
    max_length: int = 2048
    """Tokens of a prompt with one response; an excess is cut, the response last (gpmjax.data.window)."""
    rows: int = 32
    """Rows of a batch, over all hosts."""
    row_length: int = 0
    """Token slots of a row; 0: twice ``max_length``, or with packing="single" what the longest group needs."""
    max_responses: int = 8
    """Most responses of a group; larger groups are split between comparisons. 2: every group is a pair."""
    packing: str = "pack"
    """"pack" fills rows with several groups, "single" puts one group in a row."""
    template: str = "chat"
    """How prompt and response become text: by the tokenizer's "chat" template, or "raw": prompt, newline, response."""
    order: str = "both"
    """Order of the two responses that a pairwise model reads: "both", or "shuffled": one of the two, at half the
    cost."""

    def validate(self) -> None:
        if not self.train:
            raise ValueError("config.data.train=(): name at least one file, hub id or builtin: set")
        if self.weights and len(self.weights) != len(self.train):
            raise ValueError(
                f"config.data.weights={self.weights!r}: must have one weight for each of the {len(self.train)} sources"
            )
        for place, weight in enumerate(self.weights):
            positive(f"data.weights[{place}]", weight)
        at_least("data.max_length", self.max_length, 2, LONGEST)
        at_least("data.rows", self.rows, 1)
        at_least("data.max_responses", self.max_responses, 2, 2**16)
        if self.row_length and self.row_length < self.max_length:
            raise ValueError(
                f"config.data.row_length={self.row_length}: must be at least max_length={self.max_length}, or 0"
            )
        slots = self.row_length or self.max_length * (1 if self.packing == "single" else 2)
        if self.rows * slots > LARGEST_INT:
            raise ValueError(
                f"config.data.rows={self.rows}: with {slots} token slots a row it must be at most "
                f"{LARGEST_INT // slots}"
            )
        require_one_of("config.data.packing", self.packing, ("pack", "single"))
        require_one_of("config.data.template", self.template, TEMPLATES)
        require_one_of("config.data.order", self.order, ORDERS)


@dataclass
class LossConfig:
    """The loss L = (1 − c)·L_pref + c·L_lm + curl·mean((s_cyclic/τ)²) + gate_penalty·mean((λ/λ̄ − 1)²)
    + centering·mean(r²)."""

    objective: str = "cross_entropy"
    """L_pref. "cross_entropy" is −log σ; "expected_error" is the smooth 0–1 loss σ(−z), for accuracy where no scalar
    can fit; "verdict" is a generative verifier's next-token loss on each answer to a question."""
    reduction: str = "pairwise"
    """"pairwise": every comparison has the same weight. "listwise": every group has; the weights of its comparisons add
    up to 1, over all pieces that a large group is split into. A batch's loss is divided by the batch's weights."""
    label_smoothing: float = 0.0
    """ε in [0, 0.5): the target t becomes (1 − ε)·t + ε/2."""
    lm_coefficient: float = 0.0
    """c in [0, 1): the share of the language-model loss on chosen responses."""
    centering: float = 0.0
    """Bradley–Terry and hybrids only: rewards are defined up to a constant; this penalty pulls their mean to 0."""
    curl: str = "0"
    """Hybrids only: ρ ≥ 0, the price of a cyclic score; "inf" is Bradley–Terry; "auto" chooses ρ on held-out
    prompts."""
    gate_penalty: str = "0"
    """κ ≥ 0, the price of a gate that differs from uniform; "auto" chooses κ together with ``curl="auto"``."""
    folds: int = 5
    """With "auto" and a frozen backbone: parts of the prompts, each held out in turn."""
    held_out_share: float = 0.1
    """With "auto" and a backbone that trains: share of the prompts that the fit leaves out to choose γ, τ and ρ on."""

    def strength(self, name: str) -> float | None:
        """``curl`` or ``gate_penalty`` as a number; None for "auto".

        >>> LossConfig(curl="0.1").strength("curl"), LossConfig(curl="auto").strength("curl")
        (0.1, None)
        """
        value = getattr(self, name)
        if value == "auto":
            return None
        try:
            price = float(value)
        except (TypeError, ValueError):
            price = math.nan
        if not (0 <= price <= LARGEST_FLOAT or price == math.inf):
            raise ValueError(
                f"config.loss.{name}={shown(value)}: must be a number ≥ 0 (finite in float32), 'inf', or 'auto'"
            )
        return price

    def validate(self) -> None:
        self.strength("curl"), self.strength("gate_penalty")
        at_least("loss.folds", self.folds, 2, 100)
        number("config.loss.held_out_share", self.held_out_share, above=0, below=1)
        if self.gate_penalty == "auto" and self.curl != "auto":
            raise ValueError("config.loss.gate_penalty='auto': must be a number unless loss.curl='auto'")
        if self.strength("gate_penalty") == math.inf:
            raise ValueError("config.loss.gate_penalty='inf': must be finite; model.gate='none' has no gate")
        require_one_of("config.loss.objective", self.objective, OBJECTIVES)
        require_one_of("config.loss.reduction", self.reduction, REDUCTIONS)
        for name, top in (("label_smoothing", 0.5), ("lm_coefficient", 1.0)):
            number(f"config.loss.{name}", getattr(self, name), least=0, below=top)
        at_least("loss.centering", self.centering, 0)
        if self.reduction == "listwise" and self.objective == "expected_error":
            raise ValueError("config.loss.reduction='listwise': must be 'pairwise' with objective='expected_error'")


@dataclass
class Config(Experiment):
    """The fit of one preference model: ``python launch/train.py --config=configs/NAME.py --workdir=DIR``."""

    seed: int = 0
    """Seed of the heads, of LoRA, and of the data's order."""
    epochs: int = 2
    """Passes over the training data."""
    steps: int = 0
    """Steps to train; 0: as many as ``epochs`` take, and ``least_steps`` at least."""
    least_steps: int = 0
    """Least steps of a fit: a small data set is passed over more often than ``epochs`` times."""
    eval_every: int = 0
    """Steps between evaluations; 0: only at the end."""
    log_every: int = 1
    """Steps between lines of metrics.jsonl."""
    export: str = "native"
    """Format of the model written to WORKDIR/model: "native", "sequence_classification", or "none"."""
    export_step: str = "last"
    """Parameters that are exported: of the "last" step, or of the "best" step by ``checkpoint.metric``."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def validate(self) -> "Config":
        """Raises ValueError at the first field that no run could use; returns the config."""
        check_fields("config", self)
        at_least("seed", self.seed, 0, LARGEST_SEED)
        at_least("epochs", self.epochs, 1, 10**6)
        at_least("steps", self.steps, 0, LARGEST_INT)
        at_least("least_steps", self.least_steps, 0, LARGEST_INT)
        at_least("eval_every", self.eval_every, 0)
        at_least("log_every", self.log_every, 1)
        require_one_of("config.export", self.export, ("native", "sequence_classification", "none"))
        require_one_of("config.export_step", self.export_step, ("last", "best"))
        if self.export_step == "best" and not self.data.eval:
            raise ValueError("config.export_step='best': must be 'last' without data.eval")
        for part in (self.model, self.data, self.loss, self.optimizer, self.mesh, self.distributed, self.checkpoint):
            part.validate()
        if self.loss.centering and self.model.kind not in ("bt", "hybrid"):
            raise ValueError(
                f"config.loss.centering={self.loss.centering}: must be 0 unless model.kind is 'bt' or 'hybrid'"
            )
        if self.model.kind != "hybrid":
            if self.loss.strength("curl") != 0:
                raise ValueError(f"config.loss.curl={self.loss.curl!r}: must be 0 unless model.kind='hybrid'")
            if self.optimizer.cyclic_rate != 1:
                raise ValueError(
                    f"config.optimizer.cyclic_rate={self.optimizer.cyclic_rate}: must be 1 unless model.kind='hybrid'"
                )
        if self.model.gate == "none" and self.loss.strength("gate_penalty") != 0:
            raise ValueError(f"config.loss.gate_penalty={self.loss.gate_penalty!r}: must be 0 with model.gate='none'")
        if self.model.backbone == "frozen" and self.loss.lm_coefficient:
            raise ValueError(
                f"config.loss.lm_coefficient={self.loss.lm_coefficient}: must be 0 with model.backbone='frozen'"
            )
        if self.loss.objective == "verdict" and not (self.model.question and self.model.kind in ("bt", "pairwise")):
            raise ValueError(
                "config.loss.objective='verdict': must have a model.question, and model.kind 'bt' or 'pairwise'"
            )
        if self.model.question and self.loss.lm_coefficient:
            raise ValueError(f"config.loss.lm_coefficient={self.loss.lm_coefficient}: must be 0 with a model.question")
        if self.data.rows % self.optimizer.accumulate:
            raise ValueError(
                f"config.optimizer.accumulate={self.optimizer.accumulate}: must divide data.rows={self.data.rows}"
            )
        return self
