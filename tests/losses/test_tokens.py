"""Chunked token log-probabilities equal the plain formula, and their memory stays small."""

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from gpmjax.losses.tokens import token_logprobs

N, D, V = 10, 6, 17


def plain(hidden, targets, unembedding, softcap=None):
    logits = hidden @ unembedding.T
    if softcap is not None:
        logits = softcap * jnp.tanh(logits / softcap)
    return jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], axis=1)[:, 0]


def inputs(n: int = N):
    rng = np.random.default_rng(0)
    hidden, unembedding = (jnp.asarray(rng.normal(size=(rows, D)), jnp.float32) for rows in (n, V))
    return hidden, jnp.asarray(rng.integers(V, size=n), jnp.int32), unembedding


@pytest.mark.parametrize("chunk", [1, 3, 1024])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_value_and_gradient_are_those_of_the_plain_formula(chunk, softcap):
    hidden, targets, unembedding = inputs()

    def total(function):
        return lambda h, w: jnp.sum(jnp.sin(function(h, w)))

    chunked = total(lambda h, w: token_logprobs(h, targets, w, softcap=softcap, chunk=chunk))
    reference = total(lambda h, w: plain(h, targets, w, softcap))
    got, want = (jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(hidden, unembedding) for f in (chunked, reference))
    chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-5)


def test_either_axis_may_be_the_vocabulary():
    hidden, targets, unembedding = inputs()
    rows = token_logprobs(hidden, targets, unembedding)
    chex.assert_trees_all_close(token_logprobs(hidden, targets, unembedding.T, vocab_axis=1), rows, atol=1e-6)


def test_probabilities_sum_to_one():
    hidden, _, unembedding = inputs()
    every = token_logprobs(jnp.repeat(hidden, V, axis=0), jnp.tile(jnp.arange(V), N), unembedding, chunk=64)
    chex.assert_trees_all_close(jnp.sum(jnp.exp(every).reshape(N, V), axis=1), jnp.ones(N), atol=1e-5)


def test_no_tokens_give_no_values():
    chex.assert_shape(token_logprobs(*inputs(0)), (0,))


def test_an_id_outside_the_vocabulary_is_nan_and_spoils_nothing_else():
    hidden, targets, unembedding = inputs()
    logprobs = token_logprobs(hidden, targets.at[jnp.array([2, 5])].set(jnp.array([V, -1])), unembedding)
    assert jnp.isnan(logprobs[2]) and jnp.isnan(logprobs[5])
    assert int(jnp.sum(jnp.isnan(logprobs))) == 2


def test_bfloat16_states_give_float32_and_the_parameters_keep_a_float32_gradient():
    hidden, targets, unembedding = inputs()

    def total(w):
        return jnp.sum(token_logprobs(hidden.astype(jnp.bfloat16), targets, w, chunk=3))

    value, gradient = jax.value_and_grad(total)(unembedding)
    assert value.dtype == gradient.dtype == jnp.float32
    chex.assert_trees_all_close(gradient, jax.grad(lambda w: jnp.sum(plain(hidden, targets, w)))(unembedding), atol=0.1)


def temporaries(tokens: int, vocabulary: int, **options) -> int:
    """The bytes that the compiled gradient needs besides its arguments and results; nothing is run."""
    gradient = jax.grad(lambda h, w, y: jnp.sum(token_logprobs(h, y, w, **options)), argnums=(0, 1))
    shapes = [((tokens, 8), jnp.float32), ((vocabulary, 8), jnp.float32), ((tokens,), jnp.int32)]
    compiled = jax.jit(gradient).lower(*[jax.ShapeDtypeStruct(*shape) for shape in shapes]).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_the_logits_of_all_tokens_never_exist_at_once():
    tokens, chunk, vocabulary = 2048, 256, 32768
    logits_of_a_chunk = tokens * chunk * 4
    assert temporaries(tokens, vocabulary, chunk=chunk) < 6 * logits_of_a_chunk < tokens * vocabulary * 4 / 16


def test_memory_does_not_grow_with_the_vocabulary():
    small, large = (temporaries(512, vocabulary, chunk=128) for vocabulary in (2048, 16384))
    assert large < 1.05 * small


@pytest.mark.parametrize("chunk", [4, 5, 16, 17])
def test_chunks_that_do_not_divide_the_vocabulary_count_each_entry_once(chunk):
    hidden, targets, unembedding = inputs()

    def total(f):
        return jax.value_and_grad(lambda w: jnp.sum(f(w) ** 2))(unembedding)

    got = total(lambda w: token_logprobs(hidden, targets, w, chunk=chunk))
    chex.assert_trees_all_close(got, total(lambda w: plain(hidden, targets, w)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_the_running_sum_survives_extreme_logits(scale):
    hidden, targets, unembedding = inputs()

    def total(f):
        return jax.value_and_grad(lambda h: jnp.sum(f(scale * h)))(hidden)

    got = total(lambda h: token_logprobs(h, targets, unembedding, chunk=3))
    chex.assert_tree_all_finite(got)
    chex.assert_trees_all_close(got, total(lambda h: plain(h, targets, unembedding)), rtol=1e-5)


@pytest.mark.parametrize(
    "targets, unembedding, options, message",
    [
        ((N - 1,), (V, D), {}, "targets"),
        ((N,), (V, D + 1), {}, "unembedding"),
        ((N,), (V, D), {"vocab_axis": 1}, "unembedding"),
        ((N,), (V, D), {"vocab_axis": 2}, "vocab_axis 2"),
        ((N,), (V, D), {"chunk": 0}, "chunk 0"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(targets, unembedding, options, message):
    # With --jaxtyping-packages, jaxtyping checks the annotations and raises its own error first.
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=message):
        token_logprobs(jnp.ones((N, D)), jnp.zeros(targets, jnp.int32), jnp.ones(unembedding), **options)
