"""The local rollout takes messages and returns texts and the policy's tokens."""

import copy
import dataclasses

import jax
import numpy as np
import pytest

from gpmjax.data.chat import ChatFormat
from gpmjax.data.groups import Message, user
from gpmjax.models.config import DecoderConfig
from gpmjax.sampling.generate import generate
from gpmjax.sampling.logits import SamplingPlan
from gpmjax.sampling.rollout import LocalRollout, prompt_tokens

PROMPTS = [user("Tea or coffee?"), (Message("system", "Be brief."), *user("Why?"))]
PLAN = SamplingPlan(max_new_tokens=6, temperature=1.0, top_p=1.0)


@pytest.fixture(scope="module")
def rollout(chat, with_params):
    """A rollout of a random policy that often draws EOS."""
    vocabulary = len(chat.tokenizer)
    config = DecoderConfig(vocabulary, hidden_size=8, num_layers=1, num_heads=2, mlp_size=8, max_positions=128)
    model, params = with_params(config)
    ends = np.zeros(vocabulary, np.float32)
    ends[chat.tokenizer.eos_token_id] = 1.0
    # Logits of EOS alone are large: the hidden states' mean square is 1, and this column follows their sign.
    kernel = (
        np.asarray(params["lm_head"]["kernel"]) + 4.0 * ends[None, :] * np.sign(params["final_norm"]["scale"])[:, None]
    )
    params = params | {"lm_head": {"kernel": jax.numpy.asarray(kernel)}}
    return LocalRollout(model, params, chat, PLAN, samples=8, rows=2)


def test_texts_tokens_and_ends_agree(rollout, chat):
    eos = chat.tokenizer.eos_token_id
    found = rollout(PROMPTS, seed=1)
    assert len(found) == len(PROMPTS)
    flags = [flag for answers in found for flag in answers.stopped]
    assert any(flags) and not all(flags)
    for answers in found:
        for text, tokens, logprobs, stopped in zip(*answers, strict=True):
            assert len(tokens) == len(logprobs) <= PLAN.max_new_tokens
            assert stopped == (tokens[-1] == eos) and stopped == (eos in tokens.tolist())
            assert text == chat.tokenizer.decode([token for token in tokens if token != eos], skip_special_tokens=True)
            assert tokens.dtype == np.int32 and (logprobs < 0).all()


def test_an_answer_includes_what_the_header_opens(rollout, chat):
    """The part of an answer that the header writes ("<think>") is sampled from, and is part of the scored text."""
    tokenizer = copy.copy(chat.tokenizer)
    template = tokenizer.chat_template
    tokenizer.chat_template = template + "{% if add_generation_prompt %}<think>\n{% endif %}"
    opened = ChatFormat(tokenizer)
    (prompt,) = prompt_tokens(opened, PROMPTS[:1])
    assert tokenizer.decode(prompt).endswith("<think>\n") and opened.opening == "<think>\n"
    (found,) = dataclasses.replace(rollout, chat=opened)(PROMPTS[:1], seed=1)
    for text, tokens, stopped in zip(found.texts, found.tokens, found.stopped, strict=True):
        assert text == "<think>\n" + tokenizer.decode(tokens[: len(tokens) - stopped], skip_special_tokens=True)


def test_a_rollout_equals_generate_on_templated_prompts(rollout, chat):
    found = rollout(PROMPTS, seed=1, ids=[4, 9])
    plan = dataclasses.replace(PLAN, stop_tokens=(chat.tokenizer.eos_token_id,))
    prompts = [
        np.array(chat.tokenizer.apply_chat_template([m._asdict() for m in p], add_generation_prompt=True)["input_ids"])
        for p in PROMPTS
    ]
    drawn = generate(rollout.model, rollout.params, prompts, samples=8, plan=plan, seed=1, ids=[4, 9], rows=2)
    for n, answers in enumerate(found):
        for k, tokens in enumerate(answers.tokens):
            np.testing.assert_array_equal(tokens, drawn.tokens[n, k, : drawn.lengths[n, k]])


def test_rows_that_pad_an_embedding_are_never_drawn(chat, with_params):
    vocabulary = len(chat.tokenizer)
    config = DecoderConfig(vocabulary + 64, hidden_size=8, num_layers=1, num_heads=2, mlp_size=8, max_positions=128)
    model, params = with_params(config)
    # The padding rows' logits are large and equal: without the mask, nearly every draw would be one of them.
    kernel = np.array(params["lm_head"]["kernel"])
    kernel[:, vocabulary:] = 8.0 * np.sign(params["final_norm"]["scale"])[:, None]
    params = params | {"lm_head": {"kernel": jax.numpy.asarray(kernel)}}
    drawn = [
        tokens
        for answers in LocalRollout(model, params, chat, PLAN, samples=8, rows=2)(PROMPTS, seed=1)
        for tokens in answers.tokens
    ]
    assert len(drawn) == 16 and max(tokens.max() for tokens in drawn) < vocabulary
    bare = dataclasses.replace(PLAN, stop_tokens=(chat.tokenizer.eos_token_id,))
    unmasked = generate(model, params, prompt_tokens(chat, PROMPTS), samples=8, plan=bare, seed=1, rows=2)
    assert unmasked.tokens.max() >= vocabulary


def test_a_prompt_without_text_is_named(chat):
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        prompt_tokens(chat, [user("a"), user("  ")])
    with pytest.raises(ValueError, match="prompt 0 is empty"):
        prompt_tokens(chat, [()])
    raw = ChatFormat(chat.tokenizer, template="raw")
    with pytest.raises(ValueError, match="prompt 1: template='raw': takes turns of user and assistant, not of system"):
        prompt_tokens(raw, [user("a"), (Message("system", "a"), *user("b"))])
