"""The torch peer does the same work: equal weights give equal loss and gradients."""

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import AutoTokenizer

from benchmarks.speed.rows import one_response_rows, paired_loss
from benchmarks.torch_peer import TorchPeer, Trainer, pair_rows
from gpmjax.config import LossConfig
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.encode import EncodedGroup
from gpmjax.data.groups import Comparison
from gpmjax.fit.step import batch_loss, batch_totals
from gpmjax.hub import save_preference_model
from gpmjax.models.config import DecoderConfig, Runtime
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec

CONFIG = DecoderConfig(
    vocab_size=260, hidden_size=24, num_layers=2, num_heads=4, num_kv_heads=2, mlp_size=40, tie_embeddings=True
)


def groups():
    """Three pairs of different lengths. The last one's prompt ends before the tail of its template."""
    draw = np.random.default_rng(0)

    def take(n):
        return draw.integers(3, 258, n).astype(np.int32)

    sizes = ((9, 6, 4), (3, 11, 7), (14, 2, 5))
    return [
        EncodedGroup(take(p), p - 1 - (p > 10), (take(a), take(b)), (Comparison(n % 2, 1 - n % 2, number=n),))
        for n, (p, a, b) in enumerate(sizes)
    ]


@pytest.fixture(params=["gpm", "bt"])
def twin(request, tmp_path, tokenizer_directory):
    """Our model, its parameters, a peer with equal parameters, and a writer of exports."""
    gpm = PreferenceSpec(dim=4, gate="softmax", normalise="l2", tau=0.1)
    spec = gpm if request.param == "gpm" else PreferenceSpec.bradley_terry()
    model = PreferenceModel(CONFIG, spec, Runtime(attention="blockwise"))
    batch = assemble([[group] for group in groups()], BatchShape(3, 32, 2, 1))
    params = jax.jit(model.init)(jax.random.key(0), batch)["params"]
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_directory)

    def write(name, tree):
        save_preference_model(tmp_path / name, tree, CONFIG, spec, tokenizer)

    write("model", params)
    return model, params, TorchPeer(tmp_path / "model"), write


def named(write, path, gradients):
    """Our gradients under the export's names. They can be exported, since the export is linear in the parameters."""
    write("gradients", gradients)
    return load_file(path / "gradients" / "model.safetensors")


def agree(ours, theirs, model):
    wanted = {name for name in ours if name != "lm_head.weight"}
    assert wanted == set(theirs)
    for name, gradient in theirs.items():
        np.testing.assert_allclose(ours[name], gradient, atol=1e-4 * np.abs(gradient).max(), err_msg=name)


def test_a_shared_prompt_gives_the_peers_loss_and_gradients(twin, tmp_path):
    model, params, peer, write = twin
    batch, config = assemble([groups()[:2], groups()[2:]], BatchShape(2, 64, 4, 2)), LossConfig()

    @jax.jit
    @jax.value_and_grad
    def run(params):
        return batch_loss(model, params, batch, batch_totals(batch, config), config)[0]

    with jax.default_matmul_precision("highest"):
        loss, gradients = run(params)
    theirs = peer.loss(pair_rows(groups()))
    theirs.backward()
    np.testing.assert_allclose(loss, theirs.item(), rtol=1e-4)
    agree(named(write, tmp_path, gradients), peer.named_gradients(), model)


def test_identical_rows_give_the_peers_loss_and_gradients(twin, tmp_path):
    model, params, peer, write = twin
    rows = pair_rows(groups(), slots=24)
    batch = one_response_rows(rows)
    with jax.default_matmul_precision("highest"):
        (loss, _), gradients = jax.jit(jax.value_and_grad(paired_loss(model), has_aux=True))(params, batch, {})
    theirs = peer.loss(rows)
    theirs.backward()
    np.testing.assert_allclose(loss, theirs.item(), rtol=1e-4)
    agree(named(write, tmp_path, gradients), peer.named_gradients(), model)


def test_a_step_lowers_the_peers_loss(twin):
    peer = twin[2]
    trainer = Trainer(peer, learning_rate=1e-2, b1=0.9, b2=0.95, eps=1e-8, clip_norm=1.0)
    losses = [trainer.step(pair_rows(groups())) for _ in range(6)]
    assert losses[-1] < losses[0]


def test_sequences_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a sequence has 19 tokens, a row 12 slots"):
        pair_rows(groups(), slots=12)
