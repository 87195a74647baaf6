"""The config of a policy optimisation run: typed dataclasses that ``configs/gpo_*.py`` and their siblings fill.

An iteration samples K responses a prompt from the policy π_t, scores every pair of them, and trains π_θ, which is
π_{t+1} at the iteration's end.
"""

from dataclasses import dataclass, field, replace

from gpmjax.checks import LARGEST_INT, check_fields, number
from gpmjax.config.judge import MOST_ROWS, ScorerConfig
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
from gpmjax.models.config import require_one_of

METHODS = ("gpo", "sppo", "sppo_hard", "dpo", "ipo", "rebel", "nash_md", "comal", "ppo", "grpo", "gprl")
ESTIMATORS = ("all", "best_and_worst", "both")
SCORES = ("log_odds", "score")
LOG_PARTITIONS = ("centred", "zero", "estimate")
REGRESSIONS = ("gpo", "sppo", "nash_md", "comal")
"""Methods that regress log π_θ/π_t on a signal."""
WITH_REFERENCE = ("nash_md", "comal")
"""Methods that pull towards a reference policy."""
PAIRWISE = ("sppo_hard", "dpo", "ipo", "rebel")
"""Methods whose loss is about two responses; the others' is about one."""
GROUP_RELATIVE = ("ppo", "grpo", "gprl")
"""Policy gradients, whose advantages are relative to all K responses: the best and worst alone would bias them."""
TOO_LONG = ("refuse", "drop")
MOST_RESPONSES = 4096
"""Limit of a prompt's responses, all pairs of which are scored; beyond it memory would run out, so it is refused."""


@dataclass
class PromptsConfig:
    """The prompts that a policy answers."""

    source: str = ""
    """Any source of gpmjax.data.sources with a prompt in every row. Responses are ignored, repetitions dropped."""
    parts: int = 1
    """Iteration t takes every ``parts``-th prompt, the t-th first; 3 in the released recipe."""
    limit: int = 0
    """Only the first so many prompts of the source; 0: all."""
    max_length: int = 1024
    """Tokens of a templated prompt."""
    too_long: str = "refuse"
    """Longer prompts: "refuse" the run, naming the first, or "drop" them and say how many."""
    template: str = "chat"
    """How a prompt becomes text: by the tokenizer's "chat" template, or "raw"."""

    def validate(self, name: str) -> None:
        if not self.source:
            raise ValueError(f"config.{name}.source='': name a file or hub id with prompts")
        at_least(f"{name}.parts", self.parts, 1)
        at_least(f"{name}.limit", self.limit, 0)
        at_least(f"{name}.max_length", self.max_length, 1, LONGEST)
        require_one_of(f"config.{name}.too_long", self.too_long, TOO_LONG)
        require_one_of(f"config.{name}.template", self.template, TEMPLATES)


@dataclass
class RolloutConfig:
    """How responses are sampled."""

    responses: int = 5
    """K, the responses of a prompt."""
    temperature: float = 0.7
    """Logits are divided by the temperature; 0 is greedy."""
    top_k: int = 0
    """Responses are drawn from the k likeliest tokens; 0: from all."""
    top_p: float = 0.9
    """Responses are drawn from the likeliest tokens that make up this probability."""
    max_new_tokens: int = 2048
    """Most tokens of a response."""
    rows: int = 8
    """Prompts decoded together; samples do not depend on this number."""
    prompts_a_file: int = 256
    """Prompts of a file of samples or scores; a kill loses the file in progress at most."""
    endpoint: str = ""
    """URL of an OpenAI-compatible server that holds π_t; empty: this program samples from the policy."""
    endpoint_model: str = "iteration-{iteration}"
    """The server's name for the policy of an iteration, which must be served when the iteration begins."""
    timeout: float = 120.0
    """Seconds that the endpoint may be silent for."""
    retries: int = 4
    """How often a failed request is sent again."""

    def validate(self) -> None:
        at_least("rollout.responses", self.responses, 2, MOST_RESPONSES)
        at_least("rollout.temperature", self.temperature, 0)
        at_least("rollout.top_k", self.top_k, 0, LARGEST_INT)
        number("config.rollout.top_p", self.top_p, above=0, most=1)
        at_least("rollout.max_new_tokens", self.max_new_tokens, 1, LONGEST)
        at_least("rollout.rows", self.rows, 1, MOST_ROWS)
        at_least("rollout.prompts_a_file", self.prompts_a_file, 1, LARGEST_INT)
        number("config.rollout.timeout", self.timeout, above=0, most=10**6)
        at_least("rollout.retries", self.retries, 0, 1000)
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"config.rollout.endpoint={self.endpoint!r}: must begin with http:// or https://")
        try:
            self.model_of(1)
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            raise ValueError(
                f"config.rollout.endpoint_model={self.endpoint_model!r}: may hold {{iteration}} alone"
            ) from error

    def model_of(self, iteration: int) -> str:
        """The endpoint's name for the policy that an iteration samples from."""
        return self.endpoint_model.format(iteration=iteration)


@dataclass
class PolicyLossConfig:
    """The policy's loss (gpmjax.losses.policy)."""

    method: str = "gpo"
    """"gpo", "sppo", "sppo_hard", "dpo", "ipo", "rebel", "nash_md", "comal", "ppo", "grpo" or "gprl"."""
    estimator: str = "best_and_worst"
    """Responses in the loss: "all" K, the "best_and_worst" by mean score (as released), or the mean of "both"."""
    beta: float = 0.001
    """β, the strength of the pull towards π_t; the step size is 1/β."""
    score: str = "log_odds"
    """What ŝ is the mean of: "log_odds" s/τ (as the released runs, but for ``score_factor``), or the bare "score" s.
    Probabilities are always of log-odds."""
    score_factor: float = 1.0
    """Every s is multiplied by this factor before signals (ŝ, σ(s/τ), normalised scores) are made of it. 1 in the
    papers. The released scoring code amounts to 2: it enters s(i ≻ j)/τ at [i][j] of a table and −s(i ≻ j)/τ at [j][i],
    and then reads table[i][j] − table[j][i] = 2 s/τ, with rates σ(2 s/τ). Its trainer is not public and may halve
    them."""
    log_partition: str = "centred"
    """How GPO, SPPO, Nash-MD and COMAL treat log Z: "centred" residuals, in which log Z cancels; "zero" as in (5.7) and
    the released runs (SPPO and Nash-MD: ½); or its "estimate" from the K signals. COMAL is always centred."""
    label_smoothing: float = 0.0
    """DPO only: the probability that a label is wrong."""
    ipo_logprob: str = "sum"
    """IPO's log π(y|x): the "sum" over the response's tokens, as in the paper, or their "mean", as in TRL. The two need
    different β: the target 1/(2β) is nats of a whole response under "sum" and nats a token under "mean"."""
    clip: float = 0.2
    """Policy gradients: the ratio π_θ/π_t is clipped to [1 − clip, 1 + clip]."""
    kl: float = 0.0
    """Policy gradients: coefficient of the k3 estimate of KL to π_t."""
    mixture: float = 0.1
    """Nash-MD and COMAL: the weight m of the reference policy in the geometric mixture π_t^{1−m} π_ref^m that an update
    starts from; the game is regularised by m β."""
    reference_every: int = 0
    """Nash-MD and COMAL: iterations after which the current policy becomes the reference; 0: the first policy stays."""
    optimistic: bool = False
    """COMAL: looks ahead by the change of the win rates since the previous policy, at the cost of one more forward pass
    over the samples."""
    halve_after: int = 0
    """The iteration after which ``halve_every`` begins."""
    halve_every: float = 0.0
    """Regressions: iterations in which the step size 1/β halves, and m with it; 0: both stay."""

    def at(self, iteration: int) -> "PolicyLossConfig":
        """The loss of an iteration (1 is the first), with the β and the m that the schedule has reached.

        >>> later = PolicyLossConfig(beta=0.5, mixture=0.1, halve_after=10, halve_every=5.0).at(15)
        >>> later.beta, later.mixture
        (1.0, 0.05)
        >>> PolicyLossConfig(beta=0.5, halve_every=1e-9).at(10**6).beta
        536870912.0
        """
        halvings = max(iteration - self.halve_after, 0) / self.halve_every if self.halve_every else 0.0
        share = 0.5 ** min(halvings, 30.0)  # 1e-9 of the step: β stays finite in float32
        return replace(self, beta=self.beta / share, mixture=self.mixture * share)

    def reference_of(self, iteration: int) -> int:
        """The iteration that made the reference policy of ``iteration``; 0 is the policy that the run began with.

        >>> [PolicyLossConfig(reference_every=3).reference_of(t) for t in (1, 3, 4, 6, 7)]
        [0, 0, 3, 3, 6]
        """
        return (iteration - 1) // self.reference_every * self.reference_every if self.reference_every else 0

    def validate(self) -> None:
        require_one_of("config.loss.method", self.method, METHODS)
        require_one_of("config.loss.estimator", self.estimator, ESTIMATORS)
        require_one_of("config.loss.score", self.score, SCORES)
        require_one_of("config.loss.log_partition", self.log_partition, LOG_PARTITIONS)
        require_one_of("config.loss.ipo_logprob", self.ipo_logprob, ("sum", "mean"))
        if self.ipo_logprob != "sum" and self.method != "ipo":
            raise ValueError(f"config.loss.ipo_logprob={self.ipo_logprob!r}: must be 'sum' with method={self.method!r}")
        positive("loss.beta", self.beta)
        positive("loss.score_factor", self.score_factor)
        at_least("loss.kl", self.kl, 0)
        at_least("loss.reference_every", self.reference_every, 0, 10**6)
        at_least("loss.halve_after", self.halve_after, 0, 10**6)
        number("config.loss.halve_every", self.halve_every, least=0, most=10**6)
        for name, top in (("label_smoothing", 0.5), ("clip", 1.0), ("mixture", 1.0)):
            number(f"config.loss.{name}", getattr(self, name), least=0, below=top)
        needed = {
            "log_partition": ("centred", self.method == "comal"),
            "reference_every": (0, self.method not in WITH_REFERENCE),
            "optimistic": (False, self.method != "comal"),
            "halve_every": (0.0, self.method not in REGRESSIONS),
            "halve_after": (0, not self.halve_every),
        }
        for name, (only, applies) in needed.items():
            if applies and getattr(self, name) != only:
                other = "halve_every=0" if name == "halve_after" else f"method={self.method!r}"
                raise ValueError(f"config.loss.{name}={getattr(self, name)!r}: must be {only!r} with {other}")
        if self.method in GROUP_RELATIVE and self.estimator != "all":
            raise ValueError(f"config.loss.estimator={self.estimator!r}: must be 'all' with method={self.method!r}")


@dataclass
class ContestConfig:
    """After every iteration, a judge compares the policy with the one that the run began with."""

    scorer: ScorerConfig = field(default_factory=ScorerConfig)
    """The judge. Name another model than the one that trains the policy, or the figure means little."""
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    responses: int = 4
    """Of each side a prompt; every one meets every one of the other side."""

    @property
    def asked(self) -> bool:
        return bool(self.prompts.source)

    def validate(self) -> None:
        self.scorer.validate("judge.scorer")
        self.prompts.validate("judge.prompts")
        at_least("judge.responses", self.responses, 1, MOST_RESPONSES)


JudgeConfig = ContestConfig
"""Its former name, which config files may have."""


@dataclass
class ImproveConfig(Experiment):
    """A policy optimisation run: ``python launch/train.py --config=configs/gpo_smollm2.py --workdir=DIR``."""

    seed: int = 0
    """Seed of sampling, of adapters, and of the data's order."""
    iterations: int = 3
    """Iterations of sampling, scoring and training."""
    epochs: int = 1
    """Passes over an iteration's samples."""
    batch: int = 8
    """Prompts a step, over all devices; a row of the batch is a prompt with all its K responses."""
    log_every: int = 1
    """Steps between lines of metrics.jsonl."""
    export_dtype: str = "float32"
    """Dtype of the policies under WORKDIR/iteration-N/policy; the next iteration reads its policy from there."""
    policy: BackboneConfig = field(default_factory=BackboneConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    scorer: ScorerConfig = field(default_factory=ScorerConfig)
    loss: PolicyLossConfig = field(default_factory=PolicyLossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    judge: ContestConfig = field(default_factory=ContestConfig)

    def validate(self) -> "ImproveConfig":
        check_fields("config", self)
        at_least("seed", self.seed, 0, LARGEST_SEED)
        for name, most in (("iterations", 10**6), ("epochs", 10**6), ("batch", MOST_ROWS), ("log_every", LARGEST_INT)):
            at_least(name, getattr(self, name), 1, most)
        require_one_of("config.export_dtype", self.export_dtype, ("float32", "bfloat16", "float16"))
        self.prompts.validate("prompts")
        self.scorer.validate("scorer")
        self.policy.validate("policy")
        for part in (self.rollout, self.loss, self.optimizer, self.mesh, self.distributed, self.checkpoint):
            part.validate()
        if self.judge.asked:
            self.judge.validate()
        if self.batch % self.optimizer.accumulate:
            raise ValueError(f"config.optimizer.accumulate={self.optimizer.accumulate}: must divide batch={self.batch}")
        return self
