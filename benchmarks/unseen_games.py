"""Last iterates of self-play on games on which no setting was tuned; `bandit.py` runs this module.

The policy is a softmax over the arms of one game. An iteration is that of the real loop: draw K = 5 responses for each
of 128 prompts from π_t, score all pairs, minimise a loss of gpmjax.losses; the result is π_{t+1}. Each learner is
compared with its exact rule of gpmjax.preference.self_play, which needs no samples. A method has one setting for all
games. The settings were tuned on the games of `TUNING_SEEDS`; results are reported on those of `SEEDS`.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gpmjax.config.improve import PolicyLossConfig
from gpmjax.losses import policy, regression, signals
from gpmjax.preference.game import exploitability
from gpmjax.preference.score import win_probability
from gpmjax.preference.self_play import self_play

PROMPTS, K, ITERATIONS = 128, 5, 200
INNER_STEPS, LEARNING_RATE = 60, 0.1
SEEDS = range(12)
TUNING_SEEDS = range(100, 130)


def cycle_of_3(draw: np.random.Generator) -> np.ndarray:
    """Rock–paper–scissors with unequal wins, log-odds of ½ to 3."""
    a, b, c = draw.uniform(0.5, 3.0, 3)
    return np.array([[0, a, -c], [-a, 0, b], [c, -b, 0]])


def tournament_of_8(draw: np.random.Generator) -> np.ndarray:
    """A coin decides the winner of each pair, with log-odds of 2."""
    coins = draw.integers(0, 2, (8, 8)) * 2 - 1
    return 2.0 * (np.triu(coins, 1) - np.triu(coins, 1).T)


def random_10(draw: np.random.Generator) -> np.ndarray:
    """Log-odds from a normal distribution of standard deviation 2."""
    wins = draw.normal(size=(10, 10))
    return 2.0 * (np.triu(wins, 1) - np.triu(wins, 1).T)


FAMILIES: dict[str, tuple[int, Callable[[np.random.Generator], np.ndarray]]] = {
    "cycle of 3": (3, cycle_of_3),
    "tournament of 8": (8, tournament_of_8),
    "random 10": (10, random_10),
}


def games(family: str, seeds: range = SEEDS) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds [G, n, n] and starts [G, n]. A start is the softmax of n standard normal numbers."""
    arms, scores = FAMILIES[family]
    pairs = []
    for seed in seeds:
        draw = np.random.default_rng([seed, arms])
        game = scores(draw)
        start = np.exp(draw.normal(size=arms))
        pairs.append((game, start / start.sum()))
    return tuple(np.array(part, np.float32) for part in zip(*pairs, strict=True))


@dataclass(frozen=True)
class Setting:
    """A method and its hyperparameters, the same for all games."""

    rule: str
    """The rule of preference.self_play that the method follows."""
    step_size: float
    """η = 1/β of the loss; per win rate, or for GPO per log-odds."""
    regularisation: float = 0.0
    """β_reg; the mixture m is η β_reg."""
    reference_every: int = 0
    halve_after: int = 0
    halve_every: float = 0.0
    log_partition: str = "centred"
    signal: str = "win_rate"
    """"win_rate", or "log_odds" for GPO."""

    @property
    def loss(self) -> PolicyLossConfig:
        """The loss config of the policy loop, used for its schedule only; its method is "comal" for every rule."""
        schedule = dict(
            halve_after=self.halve_after, halve_every=self.halve_every, reference_every=self.reference_every
        )
        return PolicyLossConfig(
            method="comal", beta=1 / self.step_size, mixture=self.step_size * self.regularisation, **schedule
        )

    def described(self) -> dict:
        """The fields that are not at their defaults."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in dataclasses.asdict(self).items() if value != defaults[name]}


COOLING = dict(halve_after=80, halve_every=40.0)
SETTINGS = {
    "GPO": Setting("multiplicative_weights", 0.01, signal="log_odds"),
    "SPPO": Setting("multiplicative_weights", 0.05),
    "OMWU": Setting("optimistic", 2.0),
    "Nash-MD": Setting("nash_md", 1.0, 0.05, **COOLING),
    "INPO": Setting("inpo", 1.0, 0.05, **COOLING),
    "Nash-MD, moving reference": Setting("nash_md", 2.0, 0.05, reference_every=50, **COOLING),
    "COMAL, one-pass extragradient": Setting("egpo", 2.0, 0.05, reference_every=20, **COOLING),
    "COMAL": Setting("inpo", 2.0, 0.05, reference_every=50, **COOLING),
    "COMAL, optimistic": Setting("optimistic", 2.0, 0.05, reference_every=50, **COOLING),
}
"""The best of 6 to 30 settings of each method, with a constant step size or `COOLING`, by the mean last iterate on
games of `TUNING_SEEDS`. GPO's is SPPO's in units of log-odds."""
CENTRING = ("GPO", "SPPO", "Nash-MD")
"""The methods that are run with each treatment of log Z."""


def signal_of(
    setting: Setting, scores: jax.Array, logprobs: tuple[jax.Array, ...], beta: jax.Array, mixture: jax.Array
) -> jax.Array:
    """The loss's signal [P, K], from log-odds [P, K, K] and log π_t, log π_ref and log π_{t−1} [P, K]."""
    current, reference, previous = logprobs
    if setting.signal == "log_odds":
        return signals.mean_score(scores)
    rates = signals.mean_win_rate(scores)
    if setting.rule == "multiplicative_weights":
        return rates
    earlier = None
    if setting.rule == "nash_md":
        rates = signals.mixture_win_rate(scores, current, reference, mixture=mixture)
    if setting.rule == "optimistic":
        earlier = signals.mixture_win_rate(scores, current, previous, mixture=1.0)
    if setting.rule == "egpo":  # the same K responses, weighted by the half step's policy
        half = jax.nn.softmax(rates / beta + mixture * (reference - current), axis=-1)
        rates = jnp.sum(win_probability(scores) * half[..., None, :], axis=-1)
    return regression.regularised_signal(
        rates, current, reference, beta=beta, mixture=mixture, earlier_win_rate=earlier
    )


def loss_of(setting: Setting, logprob: jax.Array, current: jax.Array, signal: jax.Array, beta: jax.Array) -> jax.Array:
    if setting.log_partition == "centred":
        return jnp.mean(regression.centred_regression_loss(logprob, current, signal, beta=beta))
    log_z = 0.0 if setting.signal == "log_odds" else 0.5
    if setting.log_partition == "estimate":
        log_z = signals.log_partition(signal, beta=beta)
    return jnp.mean(policy.gpo_loss(logprob, current, signal, beta=beta, log_partition=log_z))


def minimise(loss: Callable[[jax.Array], jax.Array], logits: jax.Array, steps: int = INNER_STEPS) -> jax.Array:
    """The log-probabilities that Adam reaches from ``logits``."""
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))

    def step(carry, _):
        logits, state = carry
        updates, state = optimizer.update(jax.grad(loss)(logits), state)
        return (optax.apply_updates(logits, updates), state), None

    (logits, _), _ = jax.lax.scan(step, (logits, optimizer.init(logits)), length=steps)
    return jax.nn.log_softmax(logits)


def schedules(setting: Setting, iterations: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """β, m, and whether the current policy becomes the reference, for each iteration."""
    config = setting.loss
    steps = [config.at(t) for t in range(1, iterations + 1)]
    moves = [t > 1 and config.reference_of(t) == t - 1 for t in range(1, iterations + 1)]
    return (
        np.array([s.beta for s in steps], np.float32),
        np.array([s.mixture for s in steps], np.float32),
        np.array(moves),
    )


def learn(
    setting: Setting, scores: jax.Array, start: jax.Array, seed: jax.Array, iterations: int = ITERATIONS
) -> jax.Array:
    """The policies π_1 … π_{iterations + 1} [iterations + 1, n] of one learner, the start first."""
    first = jnp.log(start)

    def iteration(carry, inputs):
        current, reference, previous = carry
        key, beta, mixture, move = inputs
        reference = jnp.where(move, current, reference)
        arms = jax.random.categorical(key, current, shape=(PROMPTS, K))
        drawn = jax.nn.one_hot(arms, len(start))  # on a CPU its products are much faster than the gradients of gathers
        pairs = jnp.einsum("pin,nm,pjm->pij", drawn, scores, drawn)
        signal = signal_of(setting, pairs, (drawn @ current, drawn @ reference, drawn @ previous), beta, mixture)

        def loss(logits):
            return loss_of(setting, drawn @ jax.nn.log_softmax(logits), drawn @ current, signal, beta)

        after = minimise(loss, current)
        return (after, reference, current), after

    keys = jax.random.split(jax.random.key(seed), iterations)
    _, policies = jax.lax.scan(iteration, (first, first, first), (keys, *schedules(setting, iterations)))
    return jnp.exp(jnp.concatenate([first[None], policies]))


def theory(setting: Setting, scores: np.ndarray, start: np.ndarray, iterations: int = ITERATIONS) -> np.ndarray:
    """The policies [iterations + 1, G, n] of exact updates, over all arms instead of samples, and without fitting."""
    game = scores if setting.signal == "log_odds" else np.asarray(win_probability(scores)) - 0.5
    options = {}
    if setting.regularisation:
        options = dict(strength=setting.regularisation, reference_every=setting.reference_every)
    sizes = (1 / schedules(setting, iterations)[0]).tolist()
    return np.asarray(self_play(game, start, rule=setting.rule, step_size=sizes, steps=iterations, **options))


def gaps(path: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The win rate of the best response minus ½, [T, G], for policies [T, G, n]."""
    rates = np.asarray(win_probability(scores)) - 0.5
    return np.asarray(exploitability(path, np.broadcast_to(rates, (len(path), *rates.shape))))


def play(
    setting: Setting, iterations: int = ITERATIONS, seeds: range = SEEDS
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Family → exploitability by iteration and game, [T + 1, G], of the learner and of theory."""
    found = {}
    for family in FAMILIES:
        scores, start = games(family, seeds)
        run = jax.jit(jax.vmap(lambda scores, start, seed: learn(setting, scores, start, seed, iterations)))
        path = np.asarray(run(scores, start, jnp.arange(len(start)))).swapaxes(0, 1)
        found[family] = gaps(path, scores), gaps(theory(setting, scores, start, iterations), scores)
    return found


def summary(found: dict[str, tuple[np.ndarray, np.ndarray]], setting: Setting) -> dict:
    """The last iterate's exploitability over all games."""
    last = {family: learner[-1] for family, (learner, _) in found.items()}
    everything = np.concatenate(list(last.values()))
    late = np.mean([np.mean(learner[-40:]) for learner, _ in found.values()])
    exact = np.concatenate([exact[-1] for _, exact in found.values()])
    return _figures(everything) | {
        "games": len(everything),
        "iterations": len(next(iter(found.values()))[0]) - 1,
        "setting": setting.described(),
        "families": {family: _figures(values) for family, values in last.items()},
        "mean_of_last_40_iterations": round(float(late), 4),
        "theory": _figures(exact),
    }


def _figures(values: np.ndarray) -> dict[str, float]:
    return {"mean": round(float(np.mean(values)), 4), "worst": round(float(np.max(values)), 4)}


def last_iterates() -> dict:
    """The entries of bandit.json about these games.

    Returns:
      "last_iterate": method → figures of the last policy over all games. "unseen": family → "methods" and "theory",
      each method → mean exploitability over the family's games by iteration. "centring": method → treatment of log Z →
      figures.
    """
    document = {
        "last_iterate": {},
        "centring": {},
        "unseen": {family: {"methods": {}, "theory": {}} for family in FAMILIES},
    }
    for name, setting in SETTINGS.items():
        began = time.time()
        found = play(setting)
        document["last_iterate"][name] = summary(found, setting)
        for family, parts in found.items():
            for kind, values in zip(("methods", "theory"), parts, strict=True):
                document["unseen"][family][kind][name] = np.mean(values, axis=1).round(4).tolist()
        print(name, _short(document["last_iterate"][name]), f"{time.time() - began:.0f} s", flush=True)
    for name in CENTRING:
        document["centring"][name] = {"centred": _short(document["last_iterate"][name])}
        for log_partition in ("zero", "estimate"):
            setting = dataclasses.replace(SETTINGS[name], log_partition=log_partition)
            document["centring"][name][log_partition] = _short(summary(play(setting), setting))
            print(name, log_partition, document["centring"][name][log_partition], flush=True)
    return document


def _short(figures: dict) -> dict:
    return {name: figures[name] for name in ("mean", "worst", "mean_of_last_40_iterations")}
