"""Keys and values kept while decoding: those of a prompt once, those of its K responses beside them.

Nothing of the prompt is copied per response: a step's attention reads the two parts with two products.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from gpmjax.arrays import Array


class Past(NamedTuple):
    """What responses have behind them. One layer's, as written here; a stack of layers has a leading axis L.

    B prompts of at most P tokens, K responses to each of at most M; N key heads of size d. Slots not yet written hold 0.
    """

    prompt_k: Float[Array, "*L B P N d"]
    prompt_v: Float[Array, "*L B P N d"]
    response_k: Float[Array, "*L B K M N d"]
    response_v: Float[Array, "*L B K M N d"]

    def written(self, step: Int[Array, ""], k: Float[Array, "L B K N d"], v: Float[Array, "L B K N d"]) -> "Past":
        """A stack with the new tokens' keys and values in response slot ``step``; in place, inside a compiled loop."""
        put = lambda cache, new: jax.lax.dynamic_update_slice_in_dim(cache, new[:, :, :, None], step, axis=3)
        return self._replace(response_k=put(self.response_k, k), response_v=put(self.response_v, v))


class DecodeStep(NamedTuple):
    """Where all responses stand: their next token has position ``prompt_length + step``."""

    prompt_length: Int[Array, "B"]
    step: Int[Array, ""]
    """Tokens that each response has in the cache."""


def empty_past(
    prompt_k: Float[Array, "L B P N d"], prompt_v: Float[Array, "L B P N d"], responses: int, slots: int
) -> Past:
    """A stack with room for ``slots`` tokens of each of ``responses`` responses to the prompts given."""
    layers, batch, _, heads, size = prompt_k.shape
    room = jnp.zeros((layers, batch, responses, slots, heads, size), prompt_k.dtype)
    return Past(prompt_k, prompt_v, room, room)
