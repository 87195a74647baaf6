"""Pairwise models as judges: both orders, symmetrised on request, asymmetry kept; and the same numbers on every
path."""

import dataclasses

import jax
import numpy as np
import pytest

from gpmjax.data.chat import ChatFormat
from gpmjax.data.group_files import read_groups
from gpmjax.data.groups import Comparison
from gpmjax.data.questions import response_format
from gpmjax.evals.comparisons import judged_comparisons, measure_scored
from gpmjax.evals.held_out import held_out
from gpmjax.evals.order import order_figures
from gpmjax.judges.forward import make_scorer
from gpmjax.judges.judge import group_record
from gpmjax.judges.pairwise import PairwiseJudge
from gpmjax.judges.readout import PackedReader
from gpmjax.models.config import DecoderConfig
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec
from gpmjax.sharding import make_mesh

SPEC = PreferenceSpec.pairwise("candidates", tau=0.5)


@pytest.fixture(scope="module")
def scorer(chat, pairs, write_rows):
    config = DecoderConfig(
        vocab_size=len(chat.tokenizer), hidden_size=16, num_layers=2, num_heads=4, mlp_size=24, tie_embeddings=True
    )
    model = PreferenceModel(config, SPEC)
    (batch, *_) = held_out(write_rows(pairs), chat, max_length=128, rows_per_batch=1).batches()
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    numbers = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: numbers.normal(0, 0.4, leaf.shape).astype(leaf.dtype), shapes)
    return make_scorer(model, params, make_mesh())


@pytest.fixture(scope="module")
def path(pairs, write_rows):
    return write_rows(pairs)


def judge(scorer, chat, *, order="both", **changes):
    reads = response_format(chat, SPEC.question, SPEC.kind, order=order)
    return PairwiseJudge(PackedReader(scorer), reads, {}, **({"max_length": 160} | changes))


def test_both_orders_are_asked_and_averaged(scorer, chat, path):
    (group, *_) = read_groups(path)
    (raw,) = judge(scorer, chat, symmetry="none")([group])
    (even,) = judge(scorer, chat)([group])
    assert abs(raw.scores[0, 1] + raw.scores[1, 0]) > 1e-3  # this model is swayed by order
    assert np.array_equal(even.scores, -even.scores.T)
    assert even.scores[0, 1] == pytest.approx((raw.scores[0, 1] - raw.scores[1, 0]) / 2)
    assert np.array_equal(even.asked, raw.scores) and "asked" in group_record(group, even)
    assert even.embedding is None and even.tau == 0.5


def test_swapping_the_responses_swaps_the_matrix(scorer, chat, path):
    (group, *_) = read_groups(path)
    swapped = dataclasses.replace(group, responses=group.responses[::-1], comparisons=(Comparison(1, 0),))
    (one,), (other,) = judge(scorer, chat, symmetry="none")([group]), judge(scorer, chat, symmetry="none")([swapped])
    assert one.scores == pytest.approx(other.scores[::-1, ::-1], abs=2e-5)


def test_only_what_is_wanted_is_asked(scorer, chat, path):
    (group, *_) = read_groups(path)
    four = dataclasses.replace(group, responses=(*group.responses, "third", "fourth"), comparisons=(Comparison(2, 0),))
    (labelled,), (every,) = judge(scorer, chat)([four]), judge(scorer, chat)([four], "all")
    assert np.argwhere(np.isfinite(labelled.scores) & ~np.eye(4, dtype=bool)).tolist() == [[0, 2], [2, 0]]
    assert labelled.scores[2, 0] == pytest.approx(every.scores[2, 0], abs=2e-5)
    assert np.isfinite(every.scores).all() and every.forward_tokens > 5 * labelled.forward_tokens


def test_one_order_is_half_the_work_and_one_of_the_two(scorer, chat, path):
    groups = read_groups(path)
    raw = list(judge(scorer, chat, symmetry="none")(groups))
    once = list(judge(scorer, chat, order="shuffled")(groups))
    first = 0
    for both, one in zip(raw, once, strict=True):
        assert np.array_equal(one.scores, -one.scores.T)
        candidates = both.scores[0, 1], -both.scores[1, 0]
        assert min(abs(one.scores[0, 1] - c) for c in candidates) < 2e-5
        first += abs(one.scores[0, 1] - candidates[0]) < 2e-5
    assert 0 < first < len(groups)
    assert sum(v.forward_tokens for v in once) < 0.8 * sum(v.forward_tokens for v in raw)


def test_the_labelled_path_says_the_same(scorer, chat, path):
    groups = read_groups(path)
    reads = response_format(chat, SPEC.question, SPEC.kind)
    data = held_out(path, reads, max_length=160, rows_per_batch=8)
    records = []
    figures = data.measure(scorer, data.batches(), sink=records.append)
    verdicts = list(judge(scorer, chat)(groups))
    for record in records:
        comparison = groups[record["row"]].comparisons[0]
        verdict = verdicts[record["row"]]
        assert record["target"] == comparison.target
        assert record["score"] == pytest.approx(verdict.scores[0, 1], abs=2e-5)
        assert record["order_gap"] == pytest.approx(verdict.asked[0, 1] + verdict.asked[1, 0], abs=4e-5)
        assert record["chosen_characters"] == len(groups[record["row"]].responses[0])
        assert record["chosen_tokens"] == verdict.tokens[0]
    judged = measure_scored(judged_comparisons(judge(scorer, chat), data.groups), data.facts)
    for name in ("accuracy", "nll", "brier"):
        assert judged[name] == pytest.approx(figures[name], abs=1e-4)
    assert judged["order"] == pytest.approx(figures["order"], abs=1e-4)


def test_a_held_out_set_is_asked_about_in_both_orders(chat, path):
    with pytest.raises(ValueError, match="order='shuffled': a held-out set is asked about in 'both' orders"):
        held_out(
            path, response_format(chat, SPEC.question, SPEC.kind, order="shuffled"), max_length=160, rows_per_batch=8
        )


def test_order_figures_of_extremes():
    target = np.array([1.0, 1.0, 0.0])
    blind = order_figures([2.0, -1.0, -3.0], [0.0, 0.0, 0.0], target)
    assert blind == {
        "consistent": 1.0, "first_wins": 0.5, "mean_gap": 0.0, "skew_residual": 0.0,
        "accuracy_one_order": pytest.approx(2 / 3)
    }  # fmt: skip
    first_always = order_figures([0.0, 0.0, 0.0], [4.0, 4.0, 4.0], target)
    assert first_always["consistent"] == 0.0 and first_always["first_wins"] == 1.0
    assert first_always["skew_residual"] == pytest.approx(1.0) and first_always["accuracy_one_order"] == 0.5


def test_a_chat_format_is_left_alone(chat):
    assert isinstance(response_format(chat, "", "bt"), ChatFormat)
