"""The arrays that travel between modules, and the letters their dimensions go by.

Dimension legend, the same in every file:

    B  rows of a batch           T  token slots of a row       R  responses of a row
    C  comparisons of a row      K  responses of one prompt    D  hidden size of the backbone
    V  vocabulary                L  layers                     k  2-d preference blocks (an embedding has 2k numbers)

A *group* is one prompt and its K responses. A *row* holds one or more groups, each laid out as

    prompt | response 1 | response 2 | ... | response K

so a prompt is encoded once, however many responses it has. A response sees its prompt and itself, never its siblings
and never another group; its positions go on from the end of the prompt. Because of that, a score does not depend on
what else shares the row, but for rounding: float32 scores move by no more than 1e-5 of the largest one, bfloat16 scores
by up to a seventh of it (benchmarks/precision.py).

Everything here is a NamedTuple, hence a pytree: it holds numpy arrays on the host and JAX arrays on devices.
"""

import itertools
from typing import NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray


def ordered_pairs(count: int) -> list[tuple[int, int]]:
    """Every ordered pair of ``count`` responses, K(K − 1) of them, each beside its reverse.

    >>> ordered_pairs(3)
    [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)]
    """
    return [pair for i, j in itertools.combinations(range(count), 2) for pair in ((i, j), (j, i))]


class TokenLayout(NamedTuple):
    """Where each token slot belongs; all that attention needs to know. Each field is [B, T] int32.

    A query slot q may attend to a key slot s when s ≤ q, ``group`` is equal and not 0, and s is a
    prompt slot or of the same response. A sliding window counts ``positions``, not slots.

    Example, one group with a prompt of 2 tokens and responses of 2 and 1 tokens, then one pad:

        positions  0 1 2 3 2 0
        group      1 1 1 1 1 0
        response   0 0 1 1 2 0
    """

    positions: Array
    """Index of the token in its own sequence, prompt first."""
    group: Array
    """Number of the prompt in the row, from 1; 0 marks padding. A group has one, and another for each response whose
    prompt is cut differently (gpmjax.data.window)."""
    response: Array
    """0 on prompt tokens, r + 1 on those of the row's r-th response (r indexes the R axis)."""


class Comparisons(NamedTuple):
    """Which response beat which. Each field is [B, C]; padding has ``weight`` 0 and ``number`` −1."""

    chosen: Array
    """int32 index into the row's responses (the R axis)."""
    rejected: Array
    """int32 index into the row's responses."""
    target: Array
    """float32 P(chosen ≻ rejected): 1 for a plain label, ½ for a tie."""
    margin: Array
    """float32, in units of the score."""
    weight: Array
    """float32 ≥ 0."""
    number: Array
    """int32 index of the comparison in its data set; results and errors name it."""


class TokenBatch(NamedTuple):
    """Token rows: what a backbone is trained and evaluated on."""

    tokens: Array
    """[B, T] int32."""
    layout: TokenLayout
    response_end: Array
    """[B, R] int32: slot of each response's last token, always EOS; the embedding is read there."""
    prompt_end: Array
    """[B, R] int32: slot of the last token of the response's templated prompt; the scale gate is read there."""
    response_mask: Array
    """[B, R] bool: False on padding."""
    previous: Array
    """[B, T] int32: slot of the token before this one in its own sequence (the first token of every response
    follows the prompt, whichever slot it sits in); a sequence's first token points to itself."""
    lm_weight: Array
    """[B, T] float32: 1 on the tokens of chosen responses, 0 elsewhere; the language-model regulariser's weights."""
    comparisons: Comparisons


class FeatureBatch(NamedTuple):
    """Cached hidden states of a frozen backbone: what heads alone are trained on."""

    response: Array
    """[B, R, D] float32: hidden state at the response's last token."""
    prompt: Array
    """[B, R, D] float32: hidden state at the prompt's last token."""
    response_mask: Array
    """[B, R] bool."""
    comparisons: Comparisons
