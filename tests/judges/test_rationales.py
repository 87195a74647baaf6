"""Verdicts behind sampled rationales: what is read is question, rationale and closing, and nothing of the company."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmjax.config.judge import JudgeConfig
from gpmjax.data.encode import encode_each
from gpmjax.data.group_files import read_groups
from gpmjax.hub import load_tokenizer, save_decoder
from gpmjax.judges.open import open_judge
from gpmjax.judges.rationales import RationaleReader, pooled_verdicts
from gpmjax.judges.readout import GroupReading
from gpmjax.models.presets import PRESETS
from gpmjax.models.scores import PreferenceOutput
from gpmjax.models.transformer import Decoder, sequence_layout
from gpmjax.sampling.generate import TokenSamples

QUESTIONS = {"pointwise": "{prompt} {response}?", "pairwise": "{prompt} {first} {second}?"}
THINKING = JudgeConfig(max_length=200, rationales=3, rationale_tokens=4, temperature=1.0)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory, tokenizer_directory):
    """A directory with a random decoder."""
    config = dataclasses.replace(PRESETS["tiny"], max_positions=512)
    shapes = jax.eval_shape(
        Decoder(config).init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32), sequence_layout(jnp.array([2]), 2)
    )
    numbers = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: numbers.normal(0, 0.3, leaf.shape).astype(leaf.dtype), shapes["params"])
    directory = tmp_path_factory.mktemp("policy") / "model"
    save_decoder(directory, {"decoder": params}, config, load_tokenizer(str(tokenizer_directory)))
    return str(directory)


def opened(language_model, kind, **changes):
    declare = {"head": "verdict", "question": QUESTIONS[kind], "verdicts": ("Y", "N")}
    declare["kind"] = "pairwise" if kind == "pairwise" else "bt"
    return open_judge(dataclasses.replace(THINKING, model=language_model, **declare, **changes))


@pytest.mark.parametrize("kind", QUESTIONS)
def test_a_verdict_does_not_depend_on_what_else_is_asked(language_model, pairs_file, kind):
    groups = read_groups(str(pairs_file))[:4]
    judge = opened(language_model, kind)
    together = list(judge(groups))
    assert all(np.array_equal(verdict.scores, -verdict.scores.T) for verdict in together)
    (alone,) = judge(groups[2:3])
    assert alone.scores == pytest.approx(together[2].scores, abs=2e-5)
    assert alone.forward_tokens == together[2].forward_tokens
    assert judge.identity["rationales"]["rationales"] == 3
    (other,) = opened(language_model, kind, rationale_seed=1)(groups[2:3])
    assert abs(other.scores[0, 1] - alone.scores[0, 1]) > 1e-4


def test_what_is_read_is_question_rationale_closing(tokenizer_directory, pairs_file):
    """Known samples in; the sequences that the verdicts are read behind come out."""
    from gpmjax.data.chat import ChatFormat
    from gpmjax.data.questions import response_format

    tokenizer = load_tokenizer(str(tokenizer_directory))
    questions = response_format(ChatFormat(tokenizer), QUESTIONS["pointwise"], "bt")
    (encoded, _), *_ = encode_each(read_groups(str(pairs_file))[:1], questions, max_length=200)

    def write(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    thought, eos = write("hm"), tokenizer.eos_token_id
    seen = []

    def draw(prompts, names):
        assert len(set(names)) == len(prompts) == 2
        tokens = np.zeros((2, 2, 3), np.int32)
        tokens[:, 0] = [*thought, eos]  # ended by itself
        tokens[:, 1] = [*thought, thought[0]]  # ran out of room
        stopped = np.tile([True, False], (2, 1))
        return TokenSamples(tokens, tokens.astype(np.float32), np.full((2, 2), 3), stopped)

    class Read:
        def __call__(self, groups):
            for group in groups:
                seen.append([tokenizer.decode(np.concatenate([group.prompt, r])) for r in group.responses])
                odds = np.array([[2.0], [-1.0]])
                output = PreferenceOutput(odds, None, np.float32(1), np.log([0.5, 0.25]))
                yield GroupReading(output, 100)

    reader = RationaleReader(
        Read(), draw, tokenizer, dataclasses.replace(THINKING, rationale_opening=" So:"), ("Y", "N")
    )
    ((output, tokens, _),) = reader([encoded])
    question = tokenizer.decode(np.concatenate([encoded.prompt, encoded.responses[0]]))
    assert seen[0] == [question + " So:hm\nVerdict (Y or N):\n", question + " So:hmh\nVerdict (Y or N):\n"]
    mean = (1 / (1 + np.exp(-2)) + 1 / (1 + np.exp(1))) / 2
    assert output.embedding[:, 0] == pytest.approx(np.log(mean / (1 - mean)))
    assert output.mass == pytest.approx(np.log([0.5, 0.25]).mean())
    assert tokens == sum(100 + 6 + len(encoded.prompt) + len(response) for response in encoded.responses)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=9), st.sampled_from(["mean", "majority"]))
def test_pooling_is_odd_finite_and_of_one_mind_where_all_agree(odds, vote):
    odds = np.array(odds, np.float32)
    value = pooled_verdicts(odds, vote)
    assert np.isfinite(value) and pooled_verdicts(-odds, vote) == pytest.approx(-value, abs=1e-5)
    if (odds > 0.01).all():
        assert value > 0


def test_refusals(language_model, pairs_file):
    with pytest.raises(ValueError, match="rationales=-1: must be at least 0"):
        opened(language_model, "pointwise", rationales=-1)
    with pytest.raises(ValueError, match="vote is 'loudest'; allowed: 'mean', 'majority'"):
        opened(language_model, "pointwise", vote="loudest")
