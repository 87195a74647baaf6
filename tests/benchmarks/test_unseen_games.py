"""The games on which no setting was chosen: their sizes, learners against exact updates, and the recorded figures."""

import dataclasses
import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

RECORD = Path("benchmarks/results/bandit.json")


@pytest.fixture
def unseen(monkeypatch):
    monkeypatch.syspath_prepend("benchmarks")
    return importlib.import_module("unseen_games")


def test_the_thirty_six_games_differ_from_the_tuning_games(unseen):
    assert not set(unseen.SEEDS) & set(unseen.TUNING_SEEDS)
    sizes = {family: unseen.games(family)[0].shape for family in unseen.FAMILIES}
    assert sizes == {"cycle of 3": (12, 3, 3), "tournament of 8": (12, 8, 8), "random 10": (12, 10, 10)}
    for family in unseen.FAMILIES:
        scores, start = unseen.games(family)
        np.testing.assert_array_equal(scores, -scores.swapaxes(1, 2))
        np.testing.assert_allclose(start.sum(axis=1), 1, rtol=1e-5)
        assert len(np.unique(scores.reshape(12, -1), axis=0)) == 12


@pytest.mark.parametrize("name", ["COMAL", "COMAL, optimistic", "Nash-MD, moving reference"])
def test_a_learner_follows_its_exact_updates(unseen, monkeypatch, name):
    """The learner gets ten times the samples, over iterations that include a move of the reference."""
    monkeypatch.setattr(unseen, "PROMPTS", 1280)
    faster = dict(reference_every=4, step_size=1.0, regularisation=0.4, halve_after=5, halve_every=2.0)
    setting = dataclasses.replace(unseen.SETTINGS[name], **faster)
    scores, start = (part[:1] for part in unseen.games("cycle of 3", unseen.TUNING_SEEDS))
    with jax.numpy_dtype_promotion("standard"):  # optax's schedule divides an int32
        found = jax.jit(lambda *given: unseen.learn(setting, *given, iterations=8))(scores[0], start[0], jnp.int32(0))
    exact = unseen.theory(setting, scores, start, iterations=8)[:, 0]
    still = unseen.theory(dataclasses.replace(setting, reference_every=0), scores, start, iterations=8)[:, 0]
    assert np.abs(exact[-1] - exact[0]).max() > 0.1 and np.abs(exact - still).max() > 0.03
    np.testing.assert_allclose(found, exact, atol=0.02)


def test_the_recorded_figures_are_of_these_settings_and_the_best_is_as_documented(unseen):
    found = json.loads(RECORD.read_text(encoding="utf-8"))["last_iterate"]
    assert {name: figures["setting"] for name, figures in found.items()} == {
        name: setting.described() for name, setting in unseen.SETTINGS.items()
    }
    assert all((figures["games"], figures["iterations"]) == (36, 200) for figures in found.values())
    best = found["COMAL, optimistic"]
    assert best["mean"] <= 0.02 and best["worst"] <= 0.06
