"""The difference of hidden states from transformers' torch models, by length.

    python benchmarks/parity_by_length.py --lengths=64,2048,9217

The model is a random Llama of two layers, in float32, with eager attention. Both programs turn a head's planes by
position × frequency in float32. There an angle of thousands of radians is rounded to 1e-4 radians, and transformers
also rounds its frequencies, so differences between any two programs grow with length.
"""

import jax.numpy as jnp
import numpy as np
import torch
import transformers
from absl import app, flags
from flax.traverse_util import unflatten_dict

from gpmjax.hub.config_map import decoder_config
from gpmjax.hub.param_map import decoder_leaves, locate, read_leaf
from gpmjax.models.config import Runtime
from gpmjax.models.transformer import Decoder, sequence_layout

LENGTHS = flags.DEFINE_list("lengths", ["64", "2048", "9217"], "Lengths of the sequences, in tokens.")
THETAS = flags.DEFINE_list("thetas", ["1e4", "1e5", "1e6"], "Bases of the rotary frequencies.")

SHAPE = dict(
    model_type="llama", vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=64, max_position_embeddings=16384,
)  # fmt: skip


def _parameters(state: dict, table: dict, stored: dict) -> dict:
    """The decoder's parameters, read from torch's ``state``."""

    def read(name, index):
        return state[stored[name]][index]

    return unflatten_dict({path: read_leaf(leaf, read) for path, leaf in table.items()}, sep="/")


def main(_: list[str]) -> None:
    for theta in map(float, THETAS.value):
        described = SHAPE | {"rope_theta": theta}
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(**described)
        theirs = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
        with torch.no_grad():
            for parameter in theirs.parameters():
                vector = parameter.ndim == 1
                parameter.copy_(torch.randn_like(parameter) * (0.3 if vector else 0.15) + float(vector))
        ours, table = decoder_config(described), decoder_leaves(decoder_config(described))
        state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
        stored = locate(state, table, ours)
        params = _parameters(state, table, stored)
        model = Decoder(ours, Runtime(attention="chunked"))
        for length in map(int, LENGTHS.value):
            tokens = np.random.default_rng(0).integers(3, 97, (1, length))
            with torch.no_grad():
                expected = theirs.model(torch.tensor(tokens)).last_hidden_state.numpy()[0]
            layout = sequence_layout(jnp.array([length]), length)
            found = np.asarray(model.apply({"params": params}, jnp.asarray(tokens, jnp.int32), layout))[0]
            off = np.abs(found - expected).max()
            print(
                f"theta {theta:g}, {length} tokens: {off:.1e}, {off / np.abs(expected).max():.1e} of the largest",
                flush=True,
            )


if __name__ == "__main__":
    app.run(main)
