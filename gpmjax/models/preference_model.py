"""The backbone and the heads as one module, from a batch to embeddings, gates and a temperature."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gpmjax.arrays import Array, FeatureBatch, TokenBatch
from gpmjax.models.config import DecoderConfig, Runtime
from gpmjax.models.heads import PreferenceHeads
from gpmjax.models.scores import PairwiseOutput, PreferenceOutput, verdict_log_odds
from gpmjax.models.spec import PreferenceSpec
from gpmjax.models.transformer import Decoder


def at_slots(hidden: Float[Array, "B T D"], slots: Array) -> Float[Array, "B R D"]:
    """Hidden states at the ``slots`` [B, R] int32 of each row."""
    return jax.vmap(lambda row, index: row[index])(hidden, jnp.asarray(slots))


class PreferenceModel(nn.Module):
    """A decoder with heads. Its parameters are ``{"decoder": …, "heads": …}``; a ``FeatureBatch`` needs only ``heads``.

    The decoder computes in ``runtime.dtype``; features and everything computed from them are float32.
    """

    config: DecoderConfig
    spec: PreferenceSpec
    runtime: Runtime = Runtime()

    def setup(self) -> None:
        self.decoder = Decoder(self.config, self.runtime)
        self.heads = PreferenceHeads(self.spec)

    def __call__(self, batch: TokenBatch | FeatureBatch) -> PreferenceOutput | PairwiseOutput:
        """Embeddings [B, R, dim] (a hybrid's [B, R, 2 + dim]), gates [B, R, k] and τ.

        Values of padded responses are finite and have no meaning.
        """
        if isinstance(batch, FeatureBatch):
            return self._read(jnp.asarray(batch.response), jnp.asarray(batch.prompt))
        return self.preferences(self.encode(batch), batch)

    def encode(self, batch: TokenBatch) -> Float[Array, "B T D"]:
        """Hidden states of every slot, in the compute dtype."""
        return self.decoder(jnp.asarray(batch.tokens), batch.layout)

    def preferences(self, hidden: Float[Array, "B T D"], batch: TokenBatch) -> PreferenceOutput | PairwiseOutput:
        """The heads' output from the hidden states of ``encode``; for a loss that reads both."""
        return self._read(*read_features(hidden, batch))

    def _read(
        self, response: Float[Array, "B R D"], prompt: Float[Array, "B R D"]
    ) -> PreferenceOutput | PairwiseOutput:
        if self.spec.head == "verdict":
            logits = self.decoder.logits(response.astype(self.runtime.dtype))
            odds, mass = verdict_log_odds(logits, self.spec.verdict_tokens)
            output = PreferenceOutput(odds[..., None], None, jnp.float32(self.spec.tau), mass, reward=odds)
        else:
            output = self.heads(response, prompt)
        if self.spec.kind != "pairwise":
            return output
        return PairwiseOutput(output.embedding[..., 0], output.tau, output.mass)

    def features(self, batch: TokenBatch) -> tuple[Float[Array, "B R D"], Float[Array, "B R D"]]:
        """Float32 hidden states at the last tokens of responses and of prompts, which a ``FeatureBatch`` caches."""
        return read_features(self.encode(batch), batch)

    def logits(self, hidden: Float[Array, "*batch D"]) -> Float[Array, "*batch V"]:
        """Next-token logits of hidden states, float32."""
        return self.decoder.logits(hidden)


def read_features(hidden: Float[Array, "B T D"], batch: TokenBatch) -> tuple[Array, Array]:
    """Float32 hidden states where the embedding is read, and where the gate is read; [B, R, D] each."""
    response, prompt = (at_slots(hidden, slots).astype(jnp.float32) for slots in (batch.response_end, batch.prompt_end))
    return response, prompt


def predictors(hidden: Float[Array, "B T D"], batch: TokenBatch) -> Float[Array, "B T D"]:
    """The hidden state that predicts each slot's token, which is that of the token before it in its own sequence.

    The language-model regulariser is the mean of −log p(tokens | predictors) under ``batch.lm_weight``. A response's
    first token is predicted from its prompt's last token, which may be many slots away.
    """
    return at_slots(hidden, batch.previous)
