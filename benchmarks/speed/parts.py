"""Parts of a training step for both contenders: each part alone at the step's sizes, times its count in a step.

    products    a layer's seven matrix products and their gradients by input and by kernel
    attention   grouped-query attention, forward and backward; the peer's is sdpa over separate rows with a padding mask
    optimizer   clipping and AdamW over all parameters

The rest of a step is norms, SiLU, rotary positions, and the writing and reading of residuals.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import traverse_util

from benchmarks.speed import jobs, measure
from gpmjax.arrays import TokenLayout
from gpmjax.models.attention.grouped_query import attention
from gpmjax.models.config import DecoderConfig
from gpmjax.train.optimizer import make_optimizer

_PASSES = {"forward": ((1,), (0,)), "by_input": ((1,), (1,)), "by_kernel": ((0,), (0,))}
"""Contracted axes of x W, dy Wᵀ and xᵀ dy."""

_TURNS = 4


def of_a_step(
    config: DecoderConfig, params: Any, layout: TokenLayout, rows: tuple[int, int], *, attention: str, repeats: int
) -> dict:
    """Seconds per step of every part, for ours and the peer.

    Args:
      layout: layout of our batch, whose slots are those that our products multiply.
      rows: number and length of the peer's rows for the same examples.
      attention: our attention, an option of ``Runtime``.
    """
    slots, kernels = (layout.group.size, math.prod(rows)), _kernels(params)
    pairs = {
        "products": (_our_products(kernels, slots[0]), _their_products(kernels, slots[1]), config.num_layers / _TURNS),
        "attention": (_our_attention(config, layout, attention), _their_attention(config, rows), config.num_layers),
        "optimizer": (_our_optimizer(params), _their_optimizer(params), 1),
    }
    figures = {}
    for name, (ours, peer, times) in pairs.items():
        seconds = measure.in_turns({"ours": ours, "peer": peer}, repeats)
        figures[name] = {side: measure.spread([one * times for one in ones]) for side, ones in seconds.items()}
    flops = 6 * sum(math.prod(kernel) for kernel in kernels) * config.num_layers
    for side, count in zip(("ours", "peer"), slots, strict=True):
        rate = flops * count / figures["products"][side]["median"] / 1e9
        figures["products"][f"{side}_gflops"] = round(rate)
    return figures


def _kernels(params: Any) -> list[tuple[int, int]]:
    """Shapes [in, out] of one layer's kernels, which ``params`` holds stacked over layers."""
    layers = traverse_util.flatten_dict(params["decoder"]["layers"])
    return [leaf.shape[1:] for path, leaf in layers.items() if path[-1] == "kernel"]


def _draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _operands(kernels: list[tuple[int, int]], slots: int):
    """(pass, left operand, right operand) of every product of a layer."""
    for inputs, outputs in kernels:
        x, w, dy = _draw(slots, inputs), _draw(inputs, outputs), _draw(slots, outputs)
        yield from (("forward", x, w), ("by_input", dy, w), ("by_kernel", x, dy))


def _our_products(kernels: list[tuple[int, int]], slots: int) -> Callable[[], Any]:
    loops = [_loop(_PASSES[name], jnp.asarray(a), jnp.asarray(b)) for name, a, b in _operands(kernels, slots)]
    return lambda: [loop() for loop in loops]


def _loop(axes: tuple, a: jax.Array, b: jax.Array) -> Callable[[], Any]:
    """One product ``_TURNS`` times in a loop, which reuses the memory of its result as a step does."""

    def turn(n, carry):
        a, _ = carry
        a = a.at[0, 0].set(n.astype(a.dtype))  # keeps the compiler from moving the product out of the loop
        return a, jax.lax.dot_general(a, b, (axes, ((), ())))

    run = jax.jit(lambda *start: jax.lax.fori_loop(0, _TURNS, turn, start), donate_argnums=(0, 1))
    state = [a, jax.lax.dot_general(a, b, (axes, ((), ())))]

    def once() -> None:
        state[:] = jax.block_until_ready(run(*state))

    return once


def _their_products(kernels: list[tuple[int, int]], slots: int) -> Callable[[], Any]:
    turned = {"forward": lambda a, b: (a, b), "by_input": lambda a, b: (a, b.T), "by_kernel": lambda a, b: (a.T, b)}
    operands = [turned[name](torch.from_numpy(a), torch.from_numpy(b)) for name, a, b in _operands(kernels, slots)]
    results = [a @ b for a, b in operands]

    def run() -> None:
        for (a, b), result in zip(operands, results, strict=True):
            for _ in range(_TURNS):
                torch.mm(a, b, out=result)

    return run


def _our_attention(config: DecoderConfig, layout: TokenLayout, implementation: str) -> Callable[[], Any]:
    layout = TokenLayout(*map(jnp.asarray, layout))
    q, k, v, given = (
        jnp.asarray(_draw(*layout.group.shape, count, config.head_dim))
        for count in (config.num_heads, config.num_kv_heads, config.num_kv_heads, config.num_heads)
    )
    run = functools.partial(attention, layout=layout, scale=config.attention_scale, implementation=implementation)
    both = jax.jit(lambda q, k, v, given: jax.vjp(run, q, k, v)[1](given))
    return lambda: jax.block_until_ready(both(q, k, v, given))


def _their_attention(config: DecoderConfig, rows: tuple[int, int]) -> Callable[[], Any]:
    count, length = rows
    given, q, k, v = (
        torch.from_numpy(_draw(count, number, length, config.head_dim))
        for number in (config.num_heads, config.num_heads, config.num_kv_heads, config.num_kv_heads)
    )
    for leaf in (q, k, v):
        leaf.requires_grad_()
    groups = config.num_heads // config.num_kv_heads
    mask = torch.ones(length, length, dtype=torch.bool).tril().expand(count, 1, length, length)

    def run() -> None:
        wide = (x.repeat_interleave(groups, 1) for x in (k, v))  # transformers repeats keys where there is a mask
        torch.nn.functional.scaled_dot_product_attention(q, *wide, attn_mask=mask).backward(given)

    return run


def _our_optimizer(params: Any) -> Callable[[], Any]:
    optimizer = make_optimizer(jobs.OPTIMIZER, 1000)
    state = [jax.tree.map(jnp.copy, params), optimizer.init(params), jax.tree.map(jnp.ones_like, params)]

    def update(params, moments, gradient):
        updates, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, updates), moments

    step = jax.jit(update, donate_argnums=(0, 1))

    def run() -> None:
        state[:2] = jax.block_until_ready(step(*state))

    return run


def _their_optimizer(params: Any) -> Callable[[], Any]:
    model = torch.nn.ParameterList(torch.from_numpy(np.array(leaf)) for leaf in jax.tree.leaves(params))
    for parameter in model:
        parameter.grad = torch.ones_like(parameter)
    return jobs.training(model).update
