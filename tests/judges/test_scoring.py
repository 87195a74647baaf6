"""A saved model's matrices are its own pair scores, whatever is scored together; what is no preference is refused."""

import dataclasses
import importlib
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.config.judge import JudgeConfig, ScorerConfig
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodedGroup
from gpmjax.data.groups import Group, user
from gpmjax.data.prompts import Prompt
from gpmjax.hub import load_tokenizer, save_decoder, save_preference_model
from gpmjax.judges import row_reader
from gpmjax.judges.function import FunctionJudge
from gpmjax.judges.judge import skew_symmetric
from gpmjax.judges.open import look_at_scorer, open_judge, open_scorer
from gpmjax.judges.row_reader import distinct_responses
from gpmjax.losses.blocks import block_mean_scores
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.presets import PRESETS
from gpmjax.models.spec import PreferenceSpec
from gpmjax.preference.score import pairwise_scores
from gpmjax.sharding import make_mesh

PROMPTS = [Prompt(user("why?"), "p:1"), Prompt(user("how are you?"), "p:2")]
RESPONSES = [["yes", "no", "perhaps"], ["well", "badly, thanks", "who asks?"]]


def scored(scorer, prompts, responses):
    """A scorer's verdicts as arrays over all prompts: scores, tau, embedding and scale."""
    groups = [Group(p.messages, tuple(texts), where=p.where) for p, texts in zip(prompts, responses, strict=True)]
    verdicts = list(scorer(groups, "all"))

    def stack(name):
        fields = [getattr(verdict, name) for verdict in verdicts]
        return None if fields[0] is None else np.stack(fields)

    found = {name: stack(name) for name in ("scores", "embedding", "scale")}
    return SimpleNamespace(tau=verdicts[0].tau, **found)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tokenizer_directory):
    """A GPM of random weights in a directory, and its parameters."""
    model = PreferenceModel(PRESETS["tiny"], PreferenceSpec(dim=4, gate="softmax", normalise="l2", tau=0.1))
    tokenizer = load_tokenizer(str(tokenizer_directory))
    params = _init(model)
    directory = tmp_path_factory.mktemp("scorer") / "model"
    save_preference_model(directory, params, model.config, model.spec, tokenizer)
    return str(directory), model, params, ChatFormat(tokenizer)


def _init(model):
    return jax.jit(model.init)(jax.random.key(1), assemble([[]], BatchShape(1, 2, 2, 1)))["params"]


def test_a_window_beyond_the_models_positions_is_refused_before_weights_are_read(saved):
    directory, *_ = saved
    look_at_scorer(ScorerConfig(model=directory, max_length=2048), "scorer")
    look_at_scorer(ScorerConfig(model=directory), "scorer")
    with pytest.raises(
        ValueError, match="^config.judge.scorer.max_length=2049: must be at most 2048, the model's positions$"
    ):
        look_at_scorer(ScorerConfig(model=directory, max_length=2049), "judge.scorer")
    with pytest.raises(ValueError, match="config.scorer.max_length=2049"):
        open_scorer(ScorerConfig(model=directory, max_length=2049), make_mesh())
    with pytest.raises(ValueError, match="^max_length=2049: must be at most 2048, the model's positions$"):
        open_judge(JudgeConfig(directory, max_length=2049))
    assert open_judge(JudgeConfig(directory)).max_length == 2048


def test_matrices_are_the_models_own_scores(saved):
    directory, model, params, chat = saved
    config = ScorerConfig(model=directory, dtype="float32", max_length=64)
    found = scored(open_scorer(config, make_mesh()), PROMPTS, RESPONSES)
    assert found.tau == pytest.approx(0.1) and found.scores.shape == (2, 3, 3)
    alone = scored(open_scorer(config, make_mesh()), PROMPTS[1:], RESPONSES[1:])
    np.testing.assert_allclose(found.scores[1], alone.scores[0], atol=1e-5)
    again = pairwise_scores(jnp.asarray(found.embedding), jnp.asarray(found.scale))
    np.testing.assert_allclose(found.scores, again, atol=1e-5)
    assert np.abs(found.scores).max() > 1e-3

    prompt, end, response = chat.encode(PROMPTS[0].messages, RESPONSES[0][0])
    group = EncodedGroup(np.array(prompt), end, (np.array(response),), ())
    direct = model.apply({"params": params}, assemble([[group]], BatchShape(1, 64, 1, 1)))
    np.testing.assert_allclose(found.embedding[0, 0], direct.embedding[0, 0], atol=1e-5)


def test_declared_tau_wins_and_undeclared_functions_are_log_odds(monkeypatch):
    def flat(prompts, responses):
        return np.zeros((len(prompts), 3, 3))

    monkeypatch.setattr(importlib.import_module("json"), "flat", flat, raising=False)
    assert scored(open_scorer(ScorerConfig(function="json:flat"), make_mesh()), PROMPTS, RESPONSES).tau == 1.0
    assert scored(open_scorer(ScorerConfig(function="json:flat", tau=0.5), make_mesh()), PROMPTS, RESPONSES).tau == 0.5


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0, np.nan], [1, 0]], "us: p:1: score of responses 0 and 1 is nan"),
        ([[0, 1], [1, 0]], r"us: p:1: s\(0 ≻ 1\) = 1 and s\(1 ≻ 0\) = 1; scores must be skew-symmetric"),
        ([[1, 2], [-2, 0]], r"s\(0 ≻ 0\) = 1"),
    ],
)
def test_what_is_no_preference_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        skew_symmetric(np.array(matrix, np.float32), 1.0, "us: p:1")
    judge = FunctionJudge(lambda prompts, responses: [matrix], {"function": "us"})
    with pytest.raises(ValueError, match=message):
        list(judge([Group(user("q"), ("a", "b"), where="p:1")]))


def test_a_function_that_gives_another_shape_is_refused():
    judge = FunctionJudge(lambda prompts, responses: [[[0, 1, 2]]], {"function": "us"})
    with pytest.raises(ValueError, match=r"us: gave scores of shape \(1, 1, 3\), expected \(1, 2, 2\)"):
        list(judge([Group(user("q"), ("a", "b"))]))


def test_rounding_is_taken_out():
    found = skew_symmetric(np.array([[0, 1.0001], [-1, 0]], np.float32), 1.0, "us")
    np.testing.assert_array_equal(found, -found.T)


def test_what_is_next_to_nothing_need_not_be_skew():
    """Of equal texts a model's scores are rounding alone; up to 1e-5 in log-odds is not worth a refusal."""
    noise = np.array([[0, 3e-6], [3e-6, 1e-9]], np.float32)
    assert not np.any(skew_symmetric(noise, 1.0, "us"))
    with pytest.raises(ValueError, match="scores must be skew-symmetric"):
        skew_symmetric(noise, 0.5, "us")


def test_a_pairwise_model_scores_too_averaged_over_both_orders(tmp_path, tokenizer_directory):
    model = PreferenceModel(PRESETS["tiny"], PreferenceSpec.pairwise("{prompt} {first} {second}?"))
    tokenizer = load_tokenizer(str(tokenizer_directory))
    save_preference_model(tmp_path / "m", _init(model), model.config, model.spec, tokenizer)
    config = ScorerConfig(model=str(tmp_path / "m"), dtype="float32", max_length=128)
    found = scored(open_scorer(config, make_mesh()), PROMPTS, RESPONSES)
    assert found.scores.shape == (2, 3, 3) and found.embedding is None and found.scale is None
    swapped = scored(open_scorer(config, make_mesh()), PROMPTS, [texts[::-1] for texts in RESPONSES])
    np.testing.assert_allclose(found.scores, swapped.scores[:, ::-1, ::-1], atol=1e-6)
    assert np.abs(found.scores).max() > 1e-6


def test_a_language_model_scores_when_it_is_asked(tmp_path, tokenizer_directory):
    model = PreferenceModel(PRESETS["tiny"], PreferenceSpec.bradley_terry())
    tokenizer = load_tokenizer(str(tokenizer_directory))
    save_decoder(tmp_path / "m", {"decoder": _init(model)["decoder"]}, model.config, tokenizer)
    asked = ScorerConfig(
        model=str(tmp_path / "m"), dtype="float32", max_length=128,
        head="verdict", question="{prompt} {response}?", verdicts=("Y", "N"),
    )  # fmt: skip
    # Of one kind or the other, as the question has it.
    found = scored(open_scorer(asked, make_mesh()), PROMPTS, RESPONSES)
    rewards = found.scores[:, :, 0]
    np.testing.assert_allclose(found.scores, rewards[:, :, None] - rewards[:, None, :], atol=1e-5)


def test_a_language_model_thinks_before_it_scores(tmp_path, tokenizer_directory, monkeypatch):
    """Rationales are sampled behind each distinct question alone, and equal texts share the verdict."""
    model = PreferenceModel(PRESETS["tiny"], PreferenceSpec.bradley_terry())
    tokenizer = load_tokenizer(str(tokenizer_directory))
    save_decoder(tmp_path / "m", {"decoder": _init(model)["decoder"]}, model.config, tokenizer)
    asked = ScorerConfig(
        model=str(tmp_path / "m"), max_length=128, head="verdict", question="{prompt} {response}?", verdicts=("Y", "N"),
        rationales=2, rationale_tokens=3,
    )  # fmt: skip
    drawn, generate = [], importlib.import_module("gpmjax.judges.open").generate
    monkeypatch.setattr("gpmjax.judges.open.generate", lambda *a, **kw: drawn.extend(a[2]) or generate(*a, **kw))
    found = scored(open_scorer(asked, make_mesh()), PROMPTS, REPEATED)
    assert len(drawn) == 3  # "yes", "no" and "well"
    _repeats(found.scores)
    assert abs(found.scores[0, 0, 1]) > 1e-6
    at_once = scored(open_scorer(dataclasses.replace(asked, rationales=0), make_mesh()), PROMPTS, REPEATED)
    assert abs(at_once.scores[0, 0, 1] - found.scores[0, 0, 1]) > 1e-6
    with pytest.raises(ValueError, match="config.scorer.rationales=2: need a model that is read by its verdict"):
        model = PreferenceModel(PRESETS["tiny"], PreferenceSpec.bradley_terry())
        save_preference_model(tmp_path / "bt", _init(model), model.config, model.spec, tokenizer)
        look_at_scorer(ScorerConfig(str(tmp_path / "bt"), rationales=2), "scorer")


def test_features_from_a_cache_score_alike(saved, tmp_path):
    config = ScorerConfig(model=saved[0], max_length=64, feature_cache=str(tmp_path / "features"))
    plain = scored(open_scorer(ScorerConfig(model=saved[0], max_length=64), make_mesh()), PROMPTS, REPEATED)
    for _ in range(2):
        found = scored(open_scorer(config, make_mesh()), PROMPTS, REPEATED)
        np.testing.assert_allclose(found.scores, plain.scores, atol=1e-5)
        _repeats(found.scores)


def test_a_chat_model_scores_averaged_over_both_orders(http_server, completion, replying, sides, tmp_path):
    """The judge likes the longer response, and the first one by half a log-odds more; equal texts are never put to
    it."""

    def judge(prompt):
        first, second = sides(prompt)
        assert first != second
        odds = len(first) - len(second) + 0.5
        first = 1 / (1 + np.exp(-odds))
        return completion("A" if odds > 0 else "B", {"A": first, "B": 1 - first})

    http_server.script = [replying(judge)]
    config = ScorerConfig(endpoint=http_server.url, endpoint_model="judge").validate("scorer")
    look_at_scorer(config, "scorer")
    texts = [["yes", "no", "yes", "perhaps"], ["well", "well", "well", "no"]]
    found = scored(open_scorer(config, make_mesh(), answers=tmp_path / "answers.jsonl"), PROMPTS, texts)
    lengths = np.array([[len(text) for text in several] for several in texts], float)
    np.testing.assert_allclose(found.scores, lengths[:, :, None] - lengths[:, None, :], atol=1e-6)
    asked = len(http_server.requests)
    assert asked == 6 + 2 and found.embedding is None
    scored(open_scorer(config, make_mesh(), answers=tmp_path / "answers.jsonl"), PROMPTS, texts)
    assert len(http_server.requests) == asked  # answers are kept


def test_a_chat_models_unreadable_verdicts_are_ties(http_server, completion, replying, sides):
    http_server.script = [replying(lambda prompt: completion("A" if sides(prompt) == ["yes", "no"] else "Both."))]
    config = ScorerConfig(endpoint=http_server.url, endpoint_model="judge", weighing="hard")
    (matrix, _) = scored(open_scorer(config, make_mesh()), PROMPTS, RESPONSES).scores
    np.testing.assert_array_equal(matrix, [[0, 40, 0], [-40, 0, 0], [0, 0, 0]])


REPEATED = [["yes", "no", "yes", "yes"], ["well", "well", "well", "well"]]


def _repeats(scores):
    """Rows and columns of equal texts are equal, bit by bit; equal texts tie exactly."""
    for matrix, texts in zip(scores, REPEATED, strict=True):
        for i, j in itertools.product(range(4), repeat=2):
            if texts[i] == texts[j]:
                assert matrix[i, j] == 0
                np.testing.assert_array_equal(matrix[i], matrix[j])
                np.testing.assert_array_equal(matrix[:, i], matrix[:, j])


def test_equal_texts_are_read_once_and_share_the_score(saved, monkeypatch):
    directory, *_ = saved
    scorer = open_scorer(ScorerConfig(model=directory, dtype="float32", max_length=64), make_mesh())
    rows = []
    monkeypatch.setattr(row_reader, "assemble", lambda given, shape: rows.extend(given) or assemble(given, shape))
    found = scored(scorer, PROMPTS, REPEATED)
    assert [len(group.responses) for row in rows for group in row] == [2, 1]
    _repeats(found.scores)
    np.testing.assert_array_equal(found.embedding[0, 0], found.embedding[0, 3])
    np.testing.assert_array_equal(found.embedding[1, 0], found.embedding[1, 2])
    assert not np.any(found.scores[1]) and abs(found.scores[0, 0, 1]) > 1e-3
    single = scored(scorer, PROMPTS[:1], [["yes", "no"]])
    np.testing.assert_allclose(found.scores[0, :2, :2], single.scores[0], atol=1e-6)


def test_what_is_read_once_are_the_first_places_in_their_order():
    texts = [np.array(tokens, np.int32) for tokens in ([5, 6], [5, 6], [7], [5, 6], [8])]
    group = EncodedGroup(np.array([1], np.int32), 1, tuple(texts), ())
    distinct, places = distinct_responses(group)
    assert [tokens.tolist() for tokens in distinct.responses] == [[5, 6], [7], [8]]
    assert places == [0, 0, 1, 0, 2]


def test_texts_that_read_alike_once_they_are_cut_share_the_score_too(saved):
    config = ScorerConfig(model=saved[0], dtype="float32", max_length=64)
    texts = ["same" * 20 + "one", "same" * 20 + "other", "no"]
    (found,) = scored(open_scorer(config, make_mesh()), PROMPTS[:1], [texts]).scores
    assert found[0, 1] == 0 and found[0, 2] == found[1, 2] != 0


def test_a_pairwise_models_questions_about_equal_texts_are_asked_once(tmp_path, tokenizer_directory):
    model = PreferenceModel(PRESETS["tiny"], PreferenceSpec.pairwise("{prompt} {first} {second}?"))
    save_preference_model(
        tmp_path / "m", _init(model), model.config, model.spec, load_tokenizer(str(tokenizer_directory))
    )
    scorer = open_scorer(ScorerConfig(model=str(tmp_path / "m"), dtype="float32", max_length=128), make_mesh())
    found = scored(scorer, PROMPTS, REPEATED)
    _repeats(found.scores)
    single = scored(scorer, PROMPTS[:1], [["yes", "no"]])
    np.testing.assert_allclose(found.scores[0, :2, :2], single.scores[0], atol=1e-6)
    assert abs(single.scores[0, 0, 1]) > 1e-6


def test_a_functions_scores_of_a_text_are_those_of_its_first_place(monkeypatch):
    draw = np.random.default_rng(0)

    def asked(prompts, responses):
        return (lambda x: x - x.swapaxes(1, 2))(draw.normal(size=(len(prompts), 4, 4)))

    monkeypatch.setattr(importlib.import_module("json"), "moody", asked, raising=False)
    found = scored(open_scorer(ScorerConfig(function="json:moody"), make_mesh()), PROMPTS, REPEATED)
    _repeats(found.scores)
    assert abs(found.scores[0, 0, 1]) > 1e-3


def test_a_hybrids_reward_is_one_more_block(tmp_path, tokenizer_directory):
    """A hybrid scores for policies as a general preference model of k + 1 blocks: block 0 is r, the others weigh γ
    λ."""
    spec = PreferenceSpec(kind="hybrid", dim=4, gate="scaled_softmax", normalise="none", tau=0.5, gamma=0.25)
    model = PreferenceModel(PRESETS["tiny"], spec)
    tokenizer = load_tokenizer(str(tokenizer_directory))
    params = _init(model)
    rng = np.random.default_rng(0)
    params["heads"] = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params["heads"])
    save_preference_model(tmp_path / "m", params, model.config, spec, tokenizer)
    config = ScorerConfig(model=str(tmp_path / "m"), dtype="float32", max_length=64)
    found = scored(open_scorer(config, make_mesh()), PROMPTS, RESPONSES)
    assert found.embedding.shape == (2, 3, 6) and found.scale.shape == (2, 3) and found.tau == 0.5
    np.testing.assert_allclose(found.embedding[..., 1], 1)
    np.testing.assert_allclose(found.scale[:, 0], 1)
    np.testing.assert_allclose(found.scale[:, 1:].sum(-1), 0.25 * 2, rtol=1e-5)  # γ times a gate that sums to k
    assert np.ptp(found.scale[:, 1]) > 1e-4
    reward, cyclic = found.embedding[..., 0], found.embedding[..., 2:]
    expected = reward[:, :, None] - reward[:, None, :] + np.asarray(pairwise_scores(cyclic, found.scale[:, 1:]))
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)
    # GPRL's channels: the reward's own advantage comes first.
    channels = np.asarray(block_mean_scores(found.embedding))
    np.testing.assert_allclose(channels[..., 0], reward - reward.mean(-1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose((channels * found.scale[:, None]).sum(-1), found.scores.mean(-1), atol=1e-5)


def test_a_hybrid_plays_with_as_much_of_its_cycle_as_the_iteration_has_reached(tmp_path, tokenizer_directory, saved):
    spec = PreferenceSpec(kind="hybrid", dim=4, gate="softmax", normalise="none", tau=1.0, gamma=0.8)
    model = PreferenceModel(PRESETS["tiny"], spec)
    save_preference_model(
        tmp_path / "m", _init(model), model.config, model.spec, load_tokenizer(str(tokenizer_directory))
    )
    config = ScorerConfig(model=str(tmp_path / "m"), dtype="float32", max_length=64, cyclic_start=0.25, cyclic_until=4)
    first, second, last, judged = (
        scored(open_scorer(config, make_mesh(), iteration), PROMPTS, RESPONSES).scores for iteration in (1, 2, 9, None)
    )
    np.testing.assert_array_equal(last, judged)
    cyclic = (last - first) / 0.75
    assert np.abs(cyclic).max() > 1e-3
    np.testing.assert_allclose(second, first + 0.25 * cyclic, atol=1e-5)
    reward = (last - cyclic).astype(float)  # without its cyclic part it is a difference of rewards: no triad turns
    np.testing.assert_allclose(reward[:, 0, 1] + reward[:, 1, 2] + reward[:, 2, 0], 0, atol=1e-5)
    assert np.abs(cyclic[:, 0, 1] + cyclic[:, 1, 2] + cyclic[:, 2, 0]).max() > 1e-4
    plain = ScorerConfig(model=saved[0], cyclic_start=0.0, cyclic_until=2)
    with pytest.raises(ValueError, match="config.scorer.cyclic_until=2: must be 1 with .*, whose kind is 'gpm'"):
        open_scorer(plain, make_mesh(), 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(model="m", cyclic_start=0.5), "config.scorer: cyclic_start=0.5, cyclic_until=1; a schedule needs both"),
        (dict(model="m", cyclic_until=3), "config.scorer: cyclic_start=1.0, cyclic_until=3; a schedule needs both"),
        (
            dict(function="a:b", cyclic_start=0.0, cyclic_until=3),
            "config.scorer.cyclic_until=3: must be 1 with a function",
        ),
    ],
)
def test_schedules_that_would_do_nothing_are_refused(options, message):
    with pytest.raises(ValueError) as error:
        ScorerConfig(**options).validate("scorer")
    assert str(error.value).startswith(message)
