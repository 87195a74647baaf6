"""`JudgeConfig` names a judge and how it is read, for evaluation, policies, benchmarks and the reward server alike.

Flags of launch/ are made of it (gpmjax.config.flags); config files hold it as ``config.scorer`` and
``config.judge.scorer``; the reward server's clients read it from the environment (gpmjax.interop.reward_model).
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from gpmjax.checks import LARGEST_INT, number, whole
from gpmjax.config.parts import LONGEST
from gpmjax.data.chat import TEMPLATES
from gpmjax.data.questions import ORDERS
from gpmjax.models.attention.grouped_query import AUTO
from gpmjax.models.config import ATTENTIONS, DTYPES, DecoderConfig, require_one_of
from gpmjax.models.spec import (
    BOS_TOKENS,
    GATE_PLACES,
    GATES,
    HEADS,
    KINDS,
    MLP_ACTIVATIONS,
    NORMALISATIONS,
    TAU_RANGE,
    PreferenceSpec,
)

SYMMETRIES = ("average", "none")
VOTES = ("mean", "majority")
PAIR_PROMPTS = ("letter", "reasons")
WEIGHINGS = ("weighed", "hard")
MOST_ROWS = 2**20
"""Rows of a batch. A larger number is a slip, and is refused before memory is asked for."""

DECLARED: dict[str, tuple[Any, ...] | None] = {
    "kind": KINDS,
    "gate": GATES,
    "normalise": NORMALISATIONS,
    "tau": None,
    "head": HEADS,
    "question": None,
    "verdicts": None,
    "gate_at": GATE_PLACES,
    "bos_tokens": BOS_TOKENS[1:],
    "mlp_activation": tuple(MLP_ACTIVATIONS),
}
"""Fields of a PreferenceSpec that may be declared, with their choices. A field left at its default is not declared."""
CHOICES: dict[str, tuple[Any, ...]] = {
    "dtype": DTYPES,
    "template": TEMPLATES,
    "attention": (*ATTENTIONS, AUTO),
    "order": ORDERS,
    "symmetry": SYMMETRIES,
    "vote": VOTES,
    "prompt": PAIR_PROMPTS,
    "weighing": WEIGHINGS,
}
RANGES: dict[str, tuple[Any, Any]] = {
    "max_length": (0, LONGEST),
    "rows": (1, MOST_ROWS),
    "rationales": (0, 10**6),
    "rationale_tokens": (1, LONGEST),
    "rationale_seed": (0, LARGEST_INT),
    "temperature": (0, 10**6),
    "top_p": (1e-6, 1),
    "retries": (0, 1000),
    "backoff": (0, 10**6),
    "timeout": (0.001, 10**6),
    "concurrency": (1, 1000),
}


@dataclass
class JudgeConfig:
    """A judge: exactly one of a preference model, a function and a chat model behind a server, and how it is read."""

    WINDOW: ClassVar[int] = 2048
    """What ``max_length=0`` stands for, where the model has so many positions."""

    model: str = ""
    """Model directory, hub id or .gguf file."""
    function: str = ""
    """"module:name" of a function (prompts, responses [N][K] texts) → log-odds [N, K, K], in place of a model."""
    endpoint: str = ""
    """URL of a server of chat completions that judges in place of a model: http://…/v1"""
    endpoint_model: str = ""
    """The name that the server has for the judge."""

    tokenizer: str = ""
    """Where the tokenizer comes from: a directory, .gguf file or hub id; empty: from the model."""
    template: str = "chat"
    """How prompt and response become text."""
    max_length: int = 0
    """Tokens of a prompt with one response, or of a question; of longer ones the excess is cut, the response last. 0:
    2048 (a policy's scorer: 4096), or the model's positions where it has fewer."""
    rows: int = 8
    """Rows of a batch; changes memory and speed. Float32 scores move by 1e-5 of the largest at most, bfloat16 scores by
    more."""
    dtype: str = "float32"
    """What the backbone computes in; heads are float32 always. In "bfloat16" a score depends on the batch that it is
    computed in, and signs of close scores differ from float32's (benchmarks/precision.py measures both)."""
    attention: str = AUTO
    """How attention is computed: "flash" or "blockwise" for long texts; "auto": "blockwise" on CPUs, else "xla"."""
    feature_cache: str = ""
    """Directory that keeps the backbone's hidden states; models with heads on equal backbones share them. Empty: none
    are kept."""
    order: str = "both"
    """Of the two responses put to a pairwise model: "both" orders, or one that is "shuffled", which is half the
    work."""
    symmetry: str = "average"
    """Scores of a judge asked in both orders: their "average", s(i ≻ j) = ½(r(i, j) − r(j, i)), or as it gave them,
    "none"."""

    rationales: int = 0
    """Sample so many rationales before each verdict (GenRM-CoT); 0: answer at once."""
    rationale_tokens: int = 128
    """At most so many tokens a rationale."""
    temperature: float = 0.7
    """Temperature at which rationales are sampled."""
    top_p: float = 1.0
    """Rationales are drawn from the likeliest tokens that make up this probability."""
    vote: str = "mean"
    """Of the rationales' verdicts: their "mean" probability, or the "majority"'s share."""
    rationale_seed: int = 0
    """The same seed draws the same rationales."""
    rationale_opening: str = "Let's verify step by step."
    """Text between a question and its rationale."""
    rationale_closing: str = "\nVerdict ({yes} or {no}):\n"
    """Text between a rationale and its verdict; {yes} and {no} stand for the verdicts."""

    kind: str = ""
    """Declares which kind of preference model it is, where the checkpoint does not say."""
    gate: str = ""
    """Declares how the scale gate's logits are read."""
    normalise: str = ""
    """Declares whether embeddings have unit length."""
    tau: float = 0.0
    """Declares the temperature of the probability σ(s/τ); 0: the model's own, or 1 of a function."""
    head: str = ""
    """Declares what is read; "verdict": the next token's log-odds, of any language model."""
    question: str = ""
    """What a model is asked: yes_or_no, a_or_b, …, or a template."""
    verdicts: tuple[str, ...] = ()
    """The two answers that a verdict head compares, the favourable one first; empty: the named question's own."""
    gate_at: str = ""
    """Declares where the gate is read; the published code reads it after the first message."""
    bos_tokens: int = -1
    """Declares how many BOS a sequence begins with; the published recipe trained with 2. −1: the checkpoint says so, or
    as the template writes it."""
    mlp_activation: str = ""
    """Declares the activation of an MLP head."""
    declare: str = ""
    """Further declarations, field=value: "reward_mean=0,reward_std=1". Any field of
    gpmjax.models.spec.PreferenceSpec."""

    prompt: str = "letter"
    """How pairs are put to a chat model: one "letter" back, or "reasons" first."""
    weighing: str = "weighed"
    """A chat model's letter is "weighed" by its probability, or taken as said, "hard"."""
    key_variable: str = ""
    """Environment variable that holds the server's key; empty: no key is sent."""
    answer_cache: str = ""
    """File that keeps the server's answers, none of which is asked for twice; empty: beside the results, if any are
    written."""
    timeout: float = 600.0
    """Seconds that a request to the server may be silent for."""
    retries: int = 4
    """How often a failed request is sent again."""
    backoff: float = 1.0
    """Seconds before a failed request is sent again; doubled each time."""
    concurrency: int = 16
    """Requests at a time."""

    @property
    def label(self) -> str:
        """What the judge is called in messages and files."""
        return self.model or self.function or self.endpoint_model

    def beside(self, out: str | Path | None) -> "JudgeConfig":
        """The same judge, with a server's answers kept beside the summary ``out`` unless a file is named for them."""
        if not self.endpoint or self.answer_cache or out is None:
            return self
        return replace(self, answer_cache=str(Path(out).with_suffix(".cache.jsonl")))

    def declared(self) -> dict[str, Any]:
        """The PreferenceSpec fields that are given here.

        >>> JudgeConfig("m", gate="softmax", bos_tokens=0, declare="reward_mean=1").declared()
        {'reward_mean': 1.0, 'gate': 'softmax', 'bos_tokens': 0}
        """
        defaults = {field.name: field.default for field in fields(self)}
        given = {name: value for name in DECLARED if (value := getattr(self, name)) != defaults[name]}
        return declarations(self.declare) | given

    def window(self, decoder: DecoderConfig, name: str = "max_length") -> int:
        """Tokens of the longest sequence that the model is given: ``max_length``, or a default that it can read.

        Raises ValueError for a window beyond the model's positions; ``name`` is the field's, for the message.
        """
        decoder.require_positions(name, self.max_length)
        return self.max_length or min(self.WINDOW, decoder.max_positions)

    def validate(self, name: str = "") -> "JudgeConfig":
        """Returns itself; raises ValueError, one line, for the first field that no judge could use.

        Args:
          name: of the section of a config that this is, such as "judge.scorer"; empty where there is none.
        """
        prefix = f"config.{name}." if name else ""
        named = ("model", "function", "endpoint")
        if sum(bool(getattr(self, field)) for field in named) != 1:
            said = ", ".join(f"{field}={getattr(self, field)!r}" for field in named)
            raise ValueError(f"{prefix[:-1] or 'judge'}: {said}; exactly one must be given")
        if self.function and ":" not in self.function:
            raise ValueError(f"{prefix}function={self.function!r}: must be written module:name")
        if bool(self.endpoint) != bool(self.endpoint_model):
            raise ValueError(
                f"{prefix}endpoint={self.endpoint!r}: must go with endpoint_model, the name that the server has for "
                f"the judge; it is {self.endpoint_model!r}"
            )
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"{prefix}endpoint={self.endpoint!r}: must begin with http:// or https://")
        for field, allowed in CHOICES.items():
            require_one_of(f"{prefix}{field}", getattr(self, field), allowed)
        for field, allowed in DECLARED.items():
            if allowed and field != "bos_tokens":
                require_one_of(f"{prefix}{field}", getattr(self, field), ("", *allowed))
        require_one_of(f"{prefix}bos_tokens", self.bos_tokens, BOS_TOKENS)
        if self.tau:
            number(f"{prefix}tau", self.tau, least=TAU_RANGE[0], most=TAU_RANGE[1])
        if len(self.verdicts) not in (0, 2):
            raise ValueError(f"{prefix}verdicts={self.verdicts!r}: must be two answers, or none")
        for field, (least, most) in RANGES.items():
            check = number if field in _REAL else whole
            check(f"{prefix}{field}", getattr(self, field), least=least, most=most)
        if self.max_length == 1:
            raise ValueError(f"{prefix}max_length=1: must be at least 2, one token for the prompt and EOS; or 0")
        if self.feature_cache and self.rationales:
            raise ValueError(
                f"{prefix}feature_cache={self.feature_cache!r}: must be empty with rationales, which are new texts "
                f"each time"
            )
        try:
            self.declared()
        except ValueError as error:
            raise ValueError(f"{prefix}declare={self.declare!r}: {error}") from error
        return self


_REAL = {field.name for field in fields(JudgeConfig) if isinstance(field.default, float)}
"""Fields that are no counts."""


@dataclass
class ScorerConfig(JudgeConfig):
    """A judge as a policy run uses it: `JudgeConfig`, with the schedule of a hybrid's cyclic part."""

    WINDOW: ClassVar[int] = 4096

    attention: str = "xla"
    """How attention is computed, as in `JudgeConfig`; a policy run's default is "xla" on every chip."""
    cyclic_start: float = 1.0
    """Hybrid scorers in training: the share of the model's γ, the weight of the cyclic part, that the first iteration
    plays with."""
    cyclic_until: int = 1
    """The iteration from which on the cyclic part has all of γ, linearly from the first. 0 and 3: reward alone, then
    half of γ, then γ. Judges and figures of progress use all of γ. In the manner of DSPPO (arXiv 2605.17342), of which
    the abstract and summaries, but not the schedule itself, could be read."""

    def cyclic_share(self, iteration: int) -> float:
        """The share of γ that an iteration plays with.

        >>> [ScorerConfig(cyclic_start=0.0, cyclic_until=3).cyclic_share(t) for t in (1, 2, 3, 4)]
        [0.0, 0.5, 1.0, 1.0]
        """
        if iteration >= self.cyclic_until:
            return 1.0
        return self.cyclic_start + (1 - self.cyclic_start) * (iteration - 1) / (self.cyclic_until - 1)

    def validate(self, name: str = "scorer") -> "ScorerConfig":
        super().validate(name)
        number(f"config.{name}.cyclic_start", self.cyclic_start, least=0, most=1)
        whole(f"config.{name}.cyclic_until", self.cyclic_until, 1, 10**6)
        if (self.cyclic_start != 1) != (self.cyclic_until > 1):
            raise ValueError(
                f"config.{name}: cyclic_start={self.cyclic_start!r}, cyclic_until={self.cyclic_until!r}; a schedule "
                f"needs both, cyclic_start below 1 and cyclic_until of 2 or more"
            )
        if self.cyclic_until > 1 and not self.model:
            raise ValueError(
                f"config.{name}.cyclic_until={self.cyclic_until!r}: must be 1 with a function or an endpoint, which "
                f"has no γ"
            )
        if self.symmetry != "average":
            raise ValueError(
                f"config.{name}.symmetry={self.symmetry!r}: must be 'average', for a policy's scores must be "
                f"skew-symmetric"
            )
        return self


def declarations(text: str) -> dict[str, Any]:
    """Fields of a preference head as text.

    >>> declarations("normalise=l2,tau=0.1,bos_tokens=2")
    {'normalise': 'l2', 'tau': 0.1, 'bos_tokens': 2}

    Raises ValueError for a text of another form, or a number that is none.
    """
    pairs = [item.partition("=") for item in text.split(",") if item]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError("must read field=value, several joined by ','")
    kinds = {field.name: type(field.default) for field in fields(PreferenceSpec)}
    read = {name: kind for name, kind in kinds.items() if kind in (int, float)}
    return {name: read.get(name, str)(value) for name, _, value in pairs}
