"""Verdict heads read the decoder's next-token distribution; pairwise outputs are read in both orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.arrays import Comparisons, ordered_pairs
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.encode import EncodedGroup
from gpmjax.models.config import DecoderConfig
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.scores import PairwiseOutput, group_scores, order_matrix, pair_scores, verdict_log_odds
from gpmjax.models.spec import PreferenceSpec
from gpmjax.models.transformer import Decoder, sequence_layout

CONFIG = dict(vocab_size=40, hidden_size=16, num_layers=2, num_heads=4, num_kv_heads=2, mlp_size=24)
VERDICT = dict(head="verdict", question="?", verdicts=("Y", "N"), verdict_tokens=(7, 3))
BT = PreferenceSpec(kind="bt", dim=1, gate="none", normalise="none", tau=1.0, **VERDICT)
PAIRWISE = PreferenceSpec.pairwise("?", **{k: v for k, v in VERDICT.items() if k != "question"})


def comparisons(chosen, rejected):
    zeros = np.zeros((1, len(chosen)), np.float32)

    def index(values):
        return np.array([values], np.int32)

    return Comparisons(index(chosen), index(rejected), zeros + 1, zeros, zeros + 1, index(range(len(chosen))))


@pytest.mark.parametrize("more", [{"tie_embeddings": True}, {}, {"final_softcap": 2.0}], ids=str)
@pytest.mark.parametrize("spec", [BT, PAIRWISE], ids=["pointwise", "pairwise"])
def test_a_verdict_is_the_log_odds_of_the_next_token(spec, more):
    config = DecoderConfig(**CONFIG, **more)
    question = np.array([5, 9, 11, 2, 30], np.int32)
    group = EncodedGroup(question[:2], 1, (question[2:], np.array([8, 8], np.int32)), ())
    batch = assemble([[group]], BatchShape(1, 9, 3, 1))
    model = PreferenceModel(config, spec)
    params = jax.tree.map(
        lambda leaf: np.random.default_rng(leaf.size).normal(0, 0.4, leaf.shape).astype(np.float32),
        jax.eval_shape(model.init, jax.random.key(0), batch)["params"],
    )
    assert "heads" not in params  # a verdict head has no parameters
    output = model.apply({"params": params}, batch)
    decoder = Decoder(config)
    hidden = decoder.apply({"params": params["decoder"]}, question[None], sequence_layout(jnp.array([5]), 5))
    p = jax.nn.softmax(decoder.apply({"params": params["decoder"]}, hidden[0, -1], method="logits"))
    value = output.value[0, 0] if spec.kind == "pairwise" else output.embedding[0, 0, 0]
    assert float(jax.nn.sigmoid(value)) == pytest.approx(float(p[7] / (p[7] + p[3])), abs=1e-6)
    assert float(jnp.exp(output.mass[0, 0])) == pytest.approx(float(p[7] + p[3]), abs=1e-6)


def test_log_odds_stay_finite_where_probabilities_do_not():
    odds, mass = verdict_log_odds(jnp.array([1000.0, -1000.0, 0.0]), (0, 1))
    assert float(odds) == 2000.0 and float(mass) == 0.0


def test_a_matrix_of_ordered_pairs():
    pairs = ordered_pairs(4)
    assert len(set(pairs)) == 12
    value = jnp.array([10.0 * i + j for i, j in pairs])
    expected = np.array([[0 if i == j else 10 * i + j for j in range(4)] for i in range(4)])
    np.testing.assert_array_equal(order_matrix(value), expected)
    scores = group_scores(PairwiseOutput(value[None], jnp.float32(1)))
    np.testing.assert_array_equal(scores[0], (expected - expected.T) / 2)


def test_scores_are_the_mean_of_both_orders_or_the_one_that_was_asked():
    output = PairwiseOutput(jnp.array([[3.0, -1.0, 0.5]]), jnp.float32(1))
    assert pair_scores(output, comparisons([0, 1, 2], [1, 0, 2])).tolist() == [[2.0, -2.0, 0.5]]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (dict(kind="pairwise", dim=1), "question is ''; a pairwise model needs one"),
        (dict(kind="pairwise", dim=2, question="?"), "dim is 2; allowed: 1"),
        (
            dict(kind="gpm", dim=2, question="?", gate="softmax"),
            "gate is 'softmax'; a question has no prompt of its own",
        ),
        (dict(kind="gpm", dim=2, gate="none", head="verdict", question="?", verdicts=("a", "b")), "kind is 'gpm'"),
        (dict(kind="bt", dim=1, head="verdict", question="?"), r"verdicts is \(\); a verdict head needs two"),
        (dict(kind="bt", dim=1, head="verdict", verdicts=("a", "b")), "a verdict head needs two, and a question"),
        (dict(kind="bt", dim=1, verdicts=("a", "b")), "only a verdict head has any"),
        (
            dict(kind="bt", dim=1, head="verdict", question="?", verdicts=("a", "b"), verdict_tokens=(1, 1)),
            "two tokens that differ",
        ),
    ],
    ids=str,
)
def test_specs_that_make_no_sense_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        PreferenceSpec(**({"gate": "none", "normalise": "none"} | fields)).validate()
