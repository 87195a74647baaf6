"""COMAL in the policy loop: the reference and the previous policy are iterations of the run's own, and their turns
come as they should."""

import dataclasses

import jax
import numpy as np
import pyarrow as pa
import pytest

from gpmjax import hub
from gpmjax.config import BackboneConfig
from gpmjax.config.improve import JudgeConfig, PolicyLossConfig
from gpmjax.improve import improve as improving
from gpmjax.improve import stages, tables
from gpmjax.improve.improve import improve
from gpmjax.sharding import make_mesh
from gpmjax.train.backbone import open_decoder


@pytest.fixture
def comal(config):
    """Four iterations on the same four prompts, the reference moved before the third."""
    config.loss = PolicyLossConfig(
        method="comal",
        estimator="all",
        beta=0.5,
        mixture=0.2,
        reference_every=2,
        optimistic=True,
        halve_after=2,
        halve_every=1.0,
    )
    config.iterations, config.epochs, config.judge = 4, 1, JudgeConfig()
    config.prompts.limit, config.prompts.parts = 4, 1
    config.optimizer.learning_rate = 1e-2
    return config


def nudge(run, iteration, policy, examples, drift):
    """In place of training: exports another policy."""
    moved = jax.tree.map(lambda x: x * (1 + 0.1 * iteration), policy.load())
    hub.save_decoder(
        run.folder(iteration) / "policy", {"decoder": moved}, policy.model.config, policy.tokenizer, dtype="float32"
    )


def test_every_iteration_gets_the_policies_that_its_loss_asks_for(comal, tmp_path, monkeypatch):
    seen, signals = [], improving.signals
    monkeypatch.setattr(improving, "signals", lambda *given: seen.append(given) or signals(*given))
    monkeypatch.setattr(improving, "update_policy", nudge)
    improve(comal, tmp_path)

    made = [{path.name for path in (tmp_path / f"iteration-{t}").iterdir()} for t in (1, 2, 3, 4)]
    # Whatever has log-probabilities already is not computed again: of the third, π_ref is π_t; of the fourth, π_ref
    # is π_{t−1}.
    optional = [names & {"base", "reference", "previous"} for names in made]
    assert optional == [set(), {"base"}, {"base", "previous"}, {"base", "reference"}]

    mesh = make_mesh(**dataclasses.asdict(comal.mesh))

    def under(maker, iteration):
        """log π of the iteration's samples, summed, under the policy that iteration ``maker`` exported."""
        chunks = sorted((tmp_path / f"iteration-{iteration}/samples").glob("0*"))
        sampled = stages.Samples.of(pa.concat_tables([tables.read(path, tables.SAMPLES) for path in chunks]))
        backbone = BackboneConfig(source=str(tmp_path / f"iteration-{maker}/policy"), dtype="float32", remat="none")
        options = dict(batch=8, prompts_a_file=8, facts={}, between=lambda: None)
        found = stages.logprobs(
            tmp_path / f"check-{iteration}", sampled, open_decoder(backbone, mesh, 0), mesh, **options
        )
        return np.array([array.sum() for array in found], np.float32).reshape(len(sampled), -1)

    first, second, third, fourth = (scored for scored, _, _ in seen)
    np.testing.assert_array_equal(first.reference, first.base)
    np.testing.assert_array_equal(second.reference, second.base)
    assert first.previous is None
    np.testing.assert_array_equal(second.previous, second.base)
    np.testing.assert_array_equal(third.reference, third.current)
    np.testing.assert_allclose(third.previous, under(1, 3), rtol=1e-5)
    np.testing.assert_allclose(fourth.reference, under(2, 4), rtol=1e-5)
    np.testing.assert_array_equal(fourth.previous, fourth.reference)
    assert min(np.abs(fourth.reference - other).max() for other in (fourth.current, fourth.base)) > 1e-2
    assert [(loss.beta, loss.mixture) for _, loss, _ in seen] == [(0.5, 0.2), (0.5, 0.2), (1.0, 0.1), (2.0, 0.05)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(method="comal", log_partition="zero"),
            "config.loss.log_partition='zero': must be 'centred' with method='comal'",
        ),
        (dict(method="sppo", reference_every=3), "config.loss.reference_every=3: must be 0 with method='sppo'"),
        (dict(method="nash_md", optimistic=True), "config.loss.optimistic=True: must be False with method='nash_md'"),
        (dict(method="dpo", halve_every=2.0), "config.loss.halve_every=2.0: must be 0.0 with method='dpo'"),
        (dict(method="gpo", halve_after=5), "config.loss.halve_after=5: must be 0 with halve_every=0"),
        (dict(method="nash_md", reference_every=-1), "config.loss.reference_every=-1: "),
    ],
)
def test_options_that_would_do_nothing_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError) as error:
        PolicyLossConfig(**options).validate()
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
