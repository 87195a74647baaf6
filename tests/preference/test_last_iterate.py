"""The theorems about self-play's last iterate hold at every step, in float64; some rules and step sizes break them."""

import jax
import numpy as np
import pytest

from gpmjax.preference.self_play import self_play

BETA = 0.2
GAMES = 4
SIZE = 6


@pytest.fixture(autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def games():
    """Win rates minus ½ [G, 6, 6], starts and references [G, 6]. The largest |P − ½| of each game is ½, so L = ½."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(GAMES, SIZE, SIZE))
    scores = scores - scores.swapaxes(1, 2)
    scores /= 2 * np.abs(scores).max(axis=(1, 2), keepdims=True)
    start, reference = (rng.dirichlet(np.ones(SIZE), GAMES) for _ in range(2))
    return scores, start, reference


def softmax(x):
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def gains(scores, p):
    return np.einsum("gij,...gj->...gi", scores, p)


def regularised_equilibrium(scores, reference, beta=BETA):
    """The p ∝ r exp(g(p)/β), by damped fixed-point iteration, which is slow but sure; the residual is checked."""
    log_p, rate = np.log(reference), 0.5 * beta
    for _ in range(int(200 / rate)):
        log_p = (1 - rate) * log_p + rate * (np.log(reference) + gains(scores, softmax(log_p)) / beta)
    p = softmax(log_p)
    np.testing.assert_allclose(p, softmax(np.log(reference) + gains(scores, p) / beta), rtol=1e-9)
    return p


def kl(p, q):
    return np.sum(p * (np.log(p) - np.log(q)), axis=-1)


def ratios(games, rule, step_size, steps, beta=BETA):
    """KL(p*‖p_{t+1}) ÷ KL(p*‖p_t), [steps, G], 0 where KL(p*‖p_t) is within rounding; and the KL(p*‖p_t)."""
    scores, start, reference = games
    path = self_play(scores, start, rule=rule, step_size=step_size, steps=steps, magnet=reference, strength=beta)
    distance = kl(regularised_equilibrium(scores, reference, beta), np.asarray(path))
    assert np.all(distance[0] > 0.05)
    return np.where(distance[:-1] > 1e-10, distance[1:] / distance[:-1], 0.0), distance


LARGEST = {"inpo": BETA / (0.25 + BETA**2), "egpo": (np.sqrt(BETA**2 + 1) - BETA) / 0.5}
"""Step sizes at which the conditions of the theorems hold with equality, for L = ½."""


@pytest.mark.parametrize("rule", ["inpo", "egpo"])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_every_step_contracts_towards_the_regularised_equilibrium(games, rule, share):
    step_size = share * LARGEST[rule]
    found, distance = ratios(games, rule, step_size, steps=int(40 / (step_size * BETA)))
    assert np.max(found) <= 1 - step_size * BETA + 1e-6
    assert np.max(distance[-1]) < 1e-9


def test_nash_md_contracts_until_it_is_near_its_bias(games):
    scores, start, reference = games
    found, distance = ratios(games, "nash_md", step_size=1.5, steps=400)
    assert np.all(found[0] <= 1 - 1.5 * BETA + 1e-6)  # far from its limit it moves as fast as INPO
    # Then it stops, five orders of magnitude above what INPO and EGPO reach.
    assert np.all(distance[-1] > 1e-5) and np.all(np.abs(found[-1] - 1) < 1e-6)
    path = self_play(scores, start, rule="nash_md", step_size=1.5, steps=400, magnet=reference, strength=BETA)
    mixed = softmax(0.7 * np.log(path[-1]) + 0.3 * np.log(reference))
    np.testing.assert_allclose(path[-1], softmax(np.log(reference) + gains(scores, mixed) / BETA), rtol=1e-6)


def test_egpo_converges_with_a_step_size_at_which_inpo_circles(games):
    beta, step_size = 0.02, 1.5
    found, distance = ratios(games, "inpo", step_size, steps=1500, beta=beta)
    assert np.any(distance[-1] > 0.01) and np.max(found) > 1
    found, distance = ratios(games, "egpo", step_size, steps=1500, beta=beta)
    assert np.max(found) <= 1 - step_size * beta + 1e-6 and np.max(distance[-1]) < 1e-9


@pytest.mark.parametrize("rule", ["inpo", "egpo"])
def test_one_step_satisfies_the_identity_behind_its_theorem(games, rule):
    scores, start, reference = games
    step_size = 0.7
    m, star = step_size * BETA, regularised_equilibrium(scores, reference)
    options = dict(step_size=step_size, steps=1, magnet=reference, strength=BETA)
    after = np.asarray(self_play(scores, start, rule=rule, **options)[1])
    half = np.asarray(self_play(scores, start, rule="inpo", **options)[1])  # EGPO's look ahead

    def inner(left, right):
        return np.sum(left * gains(scores, right), axis=-1)

    if rule == "inpo":
        taken = m * kl(after, star) + (1 - m) * kl(after, start) + step_size * inner(star - after, start - after)
    else:
        taken = kl(after, half) + (1 - m) * kl(half, start) + m * kl(half, star)
        taken = taken + step_size * inner(half - after, half - start)
    np.testing.assert_allclose(kl(star, after), (1 - m) * kl(star, start) - taken, rtol=1e-7)


def test_optimistic_steps_contract_with_one_gain_per_step(games):
    scores, start, reference = games
    step_size = 0.5  # ηL = ¼
    m, star = step_size * BETA, regularised_equilibrium(scores, reference)
    options = dict(rule="optimistic", step_size=step_size, steps=250, magnet=reference, strength=BETA)
    half = np.asarray(self_play(scores, start, **options))
    looked = half[1:] * np.exp(step_size * (gains(scores, half[1:]) - gains(scores, half[:-1])))
    whole = np.concatenate([start[None], looked / looked.sum(axis=-1, keepdims=True)])
    energy = kl(star, whole) + 0.5 * kl(whole, half)
    assert np.all(energy[1:] <= (1 - m) * energy[:-1] + 1e-11) and np.max(kl(star, half[-1])) < 1e-9


def test_magnetic_mirror_descent_is_inpo_with_another_step_size(games):
    scores, start, reference = games
    options = dict(steps=50, magnet=reference, strength=BETA, reference_every=7)
    magnetic = self_play(scores, start, rule="magnetic", step_size=0.8, **options)
    inpo = self_play(scores, start, rule="inpo", step_size=0.8 / (1 + 0.8 * BETA), **options)
    np.testing.assert_allclose(magnetic, inpo, rtol=1e-9)


def cycle(wins=(0.4, 0.3, 0.2)):
    """A cycle of three and its equilibrium. A response's share is the strength of the win between the other two."""
    a, b, c = wins
    scores = np.array([[0, a, -c], [-a, 0, b], [c, -b, 0]])
    return scores, np.array([b, c, a]) / sum(wins)


START = np.array([0.8, 0.15, 0.05])


def exploitability(scores, p):
    return np.max(np.asarray(p) @ scores.T, axis=-1)


@pytest.mark.parametrize("rule", ["inpo", "egpo", "magnetic", "optimistic"])
def test_a_moving_reference_approaches_the_equilibrium_at_every_move(rule):
    scores, equilibrium = cycle()
    every = 60
    options = dict(rule=rule, step_size=0.5, steps=20 * every, strength=0.15)
    path = np.asarray(self_play(scores, START, reference_every=every, **options))
    references = kl(equilibrium, path[::every])
    assert np.all(np.diff(references) < 0) and references[-1] < 1e-4
    assert exploitability(scores, path[-1]) < 1e-3
    fixed = np.asarray(self_play(scores, START, **options))
    np.testing.assert_allclose(
        path[: every + 1], fixed[: every + 1], rtol=1e-12
    )  # the first move is before update T + 1
    assert exploitability(scores, fixed[-1]) > 0.05  # it stops at the regularised game's equilibrium
    if rule in ("inpo", "magnetic"):
        too_often = self_play(scores, START, reference_every=1, **options)
        assert (
            exploitability(scores, too_often[-1]) > 0.1
        )  # a reference that moves every step pulls nowhere: the policy circles


def test_the_optimistic_policy_converges_and_its_average_at_rate_one_over_n():
    scores, equilibrium = cycle()
    step_size, steps = 0.6, 4000  # η ≤ 1/(4L) with L = 0.4
    options = dict(step_size=step_size, steps=steps)
    path = np.asarray(self_play(scores, START, rule="optimistic", **options))
    np.testing.assert_allclose(path[-1], equilibrium, atol=1e-6)
    counts = np.arange(1, steps + 1)
    bound = np.log(1 / START.min()) / step_size + 1
    averages = np.cumsum(path[:-1], axis=0) / counts[:, None]
    assert np.all(exploitability(scores, averages) * counts <= bound)
    circling = np.asarray(self_play(scores, START, rule="multiplicative_weights", **options))
    averages = np.cumsum(circling[:-1], axis=0) / counts[:, None]
    assert exploitability(scores, circling[-1000:]).max() > 0.19
    assert np.any(exploitability(scores, averages) * counts > bound)


def test_the_first_optimistic_step_is_plain_and_the_second_uses_the_gains_before_it():
    scores, _ = cycle()
    path = np.asarray(self_play(scores, START, rule="optimistic", step_size=0.3, steps=2))
    np.testing.assert_allclose(path[1], softmax(np.log(START) + 0.3 * scores @ START), rtol=1e-9)
    signal = 2 * scores @ path[1] - scores @ START
    np.testing.assert_allclose(path[2], softmax(np.log(path[1]) + 0.3 * signal), rtol=1e-9)


def test_each_step_may_have_its_own_step_size():
    scores, _ = cycle()
    options = dict(rule="inpo", strength=0.2)
    sizes = [0.5, 0.1, 0.9]
    whole = np.asarray(self_play(scores, START, step_size=sizes, steps=3, **options))
    p = START
    for size, expected in zip(sizes, whole[1:], strict=True):
        p = np.asarray(self_play(scores, p, step_size=size, steps=1, magnet=START, **options)[-1])
        np.testing.assert_allclose(p, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(rule="extragradient", reference_every=5), "reference_every 5 must be 0 with rule 'extragradient'"),
        (dict(rule="egpo", strength=-0.1), "strength -0.1 must be ≥ 0"),
        (dict(rule="inpo", strength=3.0), "step_size × strength = 1.5 must be at most 1 with rule 'inpo'"),
    ],
)
def test_refusals(options, message):
    scores, _ = cycle()
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        self_play(scores, START, step_size=0.5, steps=1, **options)
