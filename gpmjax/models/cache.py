"""Keys and values kept while decoding: a prompt's once, and those of its K responses.

The prompt's are not copied for each response: a decode step's attention reads the two parts with two products.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from gpmjax.arrays import Array


class Past(NamedTuple):
    """Keys and values of all tokens so far. The shapes are one layer's; a stack of layers has a leading axis L.

    There are B prompts of at most P tokens, K responses of at most M tokens to each, and N key heads of size d. Slots
    not yet written hold 0.
    """

    prompt_k: Float[Array, "*L B P N d"]
    prompt_v: Float[Array, "*L B P N d"]
    response_k: Float[Array, "*L B K M N d"]
    response_v: Float[Array, "*L B K M N d"]

    def written(self, step: Int[Array, ""], k: Float[Array, "L B K N d"], v: Float[Array, "L B K N d"]) -> "Past":
        """The stack with new tokens' keys and values in response slot ``step``; in place within a compiled loop."""

        def put(cache: Array, new: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(cache, new[:, :, :, None], step, axis=3)

        return self._replace(response_k=put(self.response_k, k), response_v=put(self.response_v, v))


class DecodeStep(NamedTuple):
    """The step that all responses are at: their next token has position ``prompt_length + step``."""

    prompt_length: Int[Array, "B"]
    step: Int[Array, ""]
    """How many tokens of each response are in the cache."""


def empty_past(
    prompt_k: Float[Array, "L B P N d"], prompt_v: Float[Array, "L B P N d"], responses: int, slots: int
) -> Past:
    """A stack with the given prompts and room for ``slots`` tokens of each of ``responses`` responses."""
    layers, batch, _, heads, size = prompt_k.shape
    room = jnp.zeros((layers, batch, responses, slots, heads, size), prompt_k.dtype)
    return Past(prompt_k, prompt_v, room, room)
