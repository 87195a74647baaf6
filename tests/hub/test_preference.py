"""Loads saved preference models: ours, published ones, classifiers. Missing facts must be declared, heads are kept."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from jax.sharding import NamedSharding, PartitionSpec
from safetensors.torch import load_file, save_file

from gpmjax.hub import load_decoder, load_preference_model, open_source, save_preference_model
from gpmjax.hub.config_map import decoder_config
from gpmjax.hub.tensors import SafetensorsTensors
from gpmjax.models.heads import PreferenceHeads
from gpmjax.models.scores import group_scores
from gpmjax.models.spec import PreferenceSpec

BT = PreferenceSpec.bradley_terry()
GPM = PreferenceSpec(dim=4, gate="softmax", normalise="l2", tau=0.1)
HYBRID = PreferenceSpec(kind="hybrid", dim=4, gate="scaled_softmax", normalise="none", tau=1.0, gamma=0.25)
DECLARED = {"gate": "softmax", "normalise": "l2"}


@pytest.fixture
def published(tmp_path, config, tiny_params, tokenizer):
    """Makes a directory like a published model: our export without its declaration, with changed tensors."""

    def publish(change=lambda tensors: None, spec=GPM, form="native"):
        directory = tmp_path / "published"
        save_preference_model(directory, tiny_params(config, spec), config, spec, tokenizer, form)
        said = json.loads((directory / "config.json").read_text())
        del said["gpmjax"]
        (directory / "config.json").write_text(json.dumps(said))
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors")
        return str(directory)

    return publish


def assert_same(params, expected):
    jax.tree.map(np.testing.assert_array_equal, params, expected)


@pytest.mark.parametrize("form", ["native", "sequence_classification"])
@pytest.mark.parametrize(
    "spec",
    [
        BT,
        GPM,
        PreferenceSpec(dim=6, gate="none", normalise="none"),
        PreferenceSpec(dim=2, gate="softplus", tau=0.3),
        HYBRID,
    ],
)
def test_export_then_import_is_the_identity(tmp_path, family, tiny_params, tokenizer, form, spec):
    config = decoder_config(family)
    params = tiny_params(config, spec)
    save_preference_model(tmp_path / "m", params, config, spec, tokenizer, form)
    loaded = load_preference_model(str(tmp_path / "m"))
    assert (loaded.config, loaded.spec) == (config, spec)
    if form == "sequence_classification":
        params["decoder"].pop("lm_head", None)
    assert_same(loaded.params, params)
    assert loaded.tokenizer("a b").input_ids == tokenizer("a b").input_ids


def test_mlp_heads_and_learned_temperature_are_read_back(tmp_path, config, tiny_params, tokenizer):
    spec = PreferenceSpec(dim=4, head="mlp", mlp_widths=(8, 6, 5), mlp_activation="gelu", tau_mode="learned")
    params = tiny_params(config, spec)
    params["heads"]["log_tau"] = np.float32(-1.2345678)
    save_preference_model(tmp_path / "m", params, config, spec, tokenizer)
    loaded = load_preference_model(str(tmp_path / "m"))
    assert_same(loaded.params, params)
    assert loaded.spec.tau == pytest.approx(np.exp(-1.2345678))
    with pytest.raises(ValueError, match="head, for a sequence classifier is 'mlp'; allowed: 'linear'"):
        save_preference_model(tmp_path / "c", params, config, spec, tokenizer, "sequence_classification")


def test_a_published_checkpoint_loads_with_a_declaration(published, config, tiny_params):
    model = load_preference_model(published(), DECLARED)
    assert model.spec == GPM
    assert_same(model.params, tiny_params(config, GPM))


@pytest.mark.parametrize(
    ("declare", "asked"),
    [
        (
            None,
            r"nothing declares gate and normalise; pass declare with gate: one of none, softmax, .*; "
            r"normalise: one of none, l2$",
        ),
        ({"gate": "softmax"}, r"nothing declares normalise; pass declare with normalise: one of none, l2$"),
    ],
)
def test_a_missing_declaration_is_asked_for(published, declare, asked):
    with pytest.raises(ValueError, match=asked):
        load_preference_model(published(), declare)


def test_published_checkpoint_without_gate_or_output_matrix(published, config, tiny_params):
    def change(tensors):
        del tensors["prompt_head.weight"], tensors["lm_head.weight"]

    model = load_preference_model(published(change), {"normalise": "none"})
    assert model.spec == PreferenceSpec(dim=4, gate="none", normalise="none")
    assert "lm_head" not in model.params["decoder"]


def test_a_fork_with_mlp_heads(published, config):
    rng = torch.Generator().manual_seed(0)
    widths = (config.hidden_size, 8, 7, 6)

    def change(tensors):
        for head, outputs in (("value_head", 64), ("prompt_head", 32)):
            del tensors[f"{head}.weight"]
            for depth, (inputs, width) in enumerate(zip(widths, (*widths[1:], outputs), strict=True)):
                tensors[f"{head}.net.{2 * depth}.weight"] = torch.randn(width, inputs, generator=rng)
                tensors[f"{head}.net.{2 * depth}.bias"] = torch.randn(width, generator=rng)

    directory = published(change)
    with pytest.raises(
        ValueError, match="nothing declares mlp_activation; pass declare with mlp_activation: one of relu"
    ):
        load_preference_model(directory, DECLARED)
    model = load_preference_model(directory, DECLARED | {"mlp_activation": "relu"})
    assert (model.spec.dim, model.spec.mlp_widths) == (64, (8, 7, 6))
    saved = load_file(f"{directory}/model.safetensors")
    np.testing.assert_array_equal(model.params["heads"]["value"]["net_6"]["kernel"], saved["value_head.net.6.weight"].T)
    np.testing.assert_array_equal(model.params["heads"]["gate"]["net_2"]["bias"], saved["prompt_head.net.2.bias"])


def test_reward_classifiers_need_no_declaration(published, config, tiny_params):
    model = load_preference_model(published(spec=BT, form="sequence_classification"))
    assert model.spec == BT
    np.testing.assert_array_equal(
        model.params["heads"]["value"]["kernel"], tiny_params(config, BT)["heads"]["value"]["kernel"]
    )


def test_other_classifiers_must_be_declared_preference_models(published):
    directory = published(form="sequence_classification")
    with pytest.raises(ValueError, match="nothing declares kind and gate and normalise"):
        load_preference_model(directory)
    assert load_preference_model(directory, DECLARED | {"kind": "gpm"}).spec == GPM


def test_a_hybrid_is_read_from_its_declaration_alone(published, config, tiny_params):
    directory = published(spec=HYBRID)
    with pytest.raises(ValueError, match=r"the head gives 5 numbers; .* declared as kind='hybrid'"):
        load_preference_model(directory, DECLARED)
    declared = {
        name: value for name, value in HYBRID.to_dict().items() if name in ("kind", "gate", "normalise", "tau", "gamma")
    }
    model = load_preference_model(directory, declared)
    assert model.spec == HYBRID
    assert_same(model.params, tiny_params(config, HYBRID))
    assert model.params["heads"]["value"]["kernel"].shape[-1] == 5


def test_odd_embedding_dimension(published):
    def change(tensors):
        tensors["value_head.weight"] = tensors["value_head.weight"][:3].clone()

    with pytest.raises(
        ValueError, match=r"the head gives 3 numbers; allowed: 1 \(a reward\), an even number \(2k\), or an odd"
    ):
        load_preference_model(published(change), DECLARED)


@pytest.mark.parametrize(
    ("declare", "complaint"),
    [
        ({"gate": "none", "normalise": "l2"}, "gate is declared as 'none', but the model holds a prompt_head"),
        (DECLARED | {"dim": 6}, "dim is declared as 6, its tensors say 4"),
        (DECLARED | {"gates": 1}, "preference field is 'gates'; allowed: 'bos_tokens', 'dim', "),
        ({"gate": "cosine", "normalise": "l2"}, "gate is 'cosine'; allowed: 'none', 'softmax'"),
    ],
)
def test_impossible_declarations_are_refused(published, declare, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_preference_model(published(), declare)


def test_the_caller_may_not_contradict_the_model(tmp_path, config, tiny_params, tokenizer):
    save_preference_model(tmp_path / "m", tiny_params(config, GPM), config, GPM, tokenizer)
    assert load_preference_model(str(tmp_path / "m"), DECLARED).spec == GPM
    with pytest.raises(ValueError, match="config.json says normalise='l2', the caller 'none'"):
        load_preference_model(str(tmp_path / "m"), {"normalise": "none"})


def test_a_backbone_is_not_a_preference_model(published):
    def change(tensors):
        del tensors["prompt_head.weight"], tensors["value_head.weight"]

    with pytest.raises(
        ValueError, match="no saved head, looked for value_head.weight, value_head.net.0.weight and score.weight"
    ):
        load_preference_model(published(change), DECLARED)


def test_a_saved_head_is_dropped_only_on_request(published, config, tiny_params):
    source = open_source(published())
    with pytest.raises(
        ValueError, match=r"holds a trained head \(prompt_head.weight\); load_preference_model keeps it"
    ):
        load_decoder(source)
    assert_same(load_decoder(source, saved_heads="drop"), tiny_params(config, GPM)["decoder"])
    with pytest.raises(ValueError, match="saved_heads is 'ignore'; allowed: 'refuse', 'drop'"):
        load_decoder(source, saved_heads="ignore")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop("model.norm.weight"), "tensors missing: model.norm.weight"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "tensors that no parameter uses: extra"),
        (
            lambda tensors: tensors.update({"model.norm.weight": torch.ones(3)}),
            r"tensor model.norm.weight has shape \(3,\), its config asks for \(24,\)",
        ),
        (
            lambda tensors: tensors.update({"prompt_head.weight": torch.ones(3, 24)}),
            r"tensor prompt_head.weight has shape \(3, 24\), its config asks for \(2, 24\)",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(published, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_preference_model(published(change), DECLARED)


def test_missing_tokenizer(published, tmp_path):
    directory = published()
    (tmp_path / "published" / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="no tokenizer, looked for tokenizer.json"):
        load_preference_model(directory, DECLARED)


def test_arrays_are_created_sharded_and_only_slices_are_read(published, config, tiny_params, monkeypatch):
    sizes = {}
    whole_read = SafetensorsTensors.read

    def read(self, name, index=()):
        values = whole_read(self, name, index)
        sizes.setdefault(name, []).append(values.size)
        return values

    monkeypatch.setattr(SafetensorsTensors, "read", read)
    mesh = jax.make_mesh((4,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])

    def place(path, shape, dtype, read):
        divisible = len(shape) > 1 and shape[-1] % 4 == 0
        partition = PartitionSpec(*[None] * (len(shape) - 1), "fsdp") if divisible else PartitionSpec()
        sharding = NamedSharding(mesh, partition)
        return jax.make_array_from_callback(shape, sharding, lambda index: np.asarray(read(index), dtype))

    model = load_preference_model(published(), DECLARED, place)
    assert_same(model.params, tiny_params(config, GPM))
    up = "model.layers.0.mlp.up_proj.weight"
    assert sizes[up] == [config.hidden_size * config.mlp_size // 4] * 4
    assert len(model.params["decoder"]["layers"]["mlp"]["up"]["kernel"].sharding.device_set) == 4


PAIRWISE = PreferenceSpec.pairwise("candidates")
VERIFIER = PreferenceSpec(
    kind="bt", dim=1, gate="none", normalise="none", tau=1.0, head="verdict", question="yes_or_no", verdicts=("a", "b")
)


@pytest.mark.parametrize("form", ["native", "sequence_classification"])
def test_a_pairwise_head_is_read_back(tmp_path, config, tiny_params, tokenizer, form):
    params = tiny_params(config, PAIRWISE)
    save_preference_model(tmp_path / "m", params, config, PAIRWISE, tokenizer, form)
    loaded = load_preference_model(str(tmp_path / "m"))
    assert loaded.spec == PAIRWISE
    np.testing.assert_array_equal(loaded.params["heads"]["value"]["kernel"], params["heads"]["value"]["kernel"])


def test_published_pairwise_models_are_declared(published, config, tiny_params, tokenizer, tmp_path):
    """Published forms: a sequence classifier over two candidates, and a language model that answers A or B."""
    classifier = published(spec=PAIRWISE, form="sequence_classification")
    assert load_preference_model(classifier, {"kind": "pairwise", "question": "candidates"}).spec == PAIRWISE
    with pytest.raises(ValueError, match="question is ''; a pairwise model needs one"):
        load_preference_model(classifier, {"kind": "pairwise"})
    with pytest.raises(ValueError, match="is about one response, which does not fit kind='pairwise'"):
        load_preference_model(classifier, {"kind": "pairwise", "question": "yes_or_no"})


def test_any_language_model_can_be_asked_a_question(published, tokenizer):
    def drop_the_head(tensors):
        for name in [name for name in tensors if "head" in name and name != "lm_head.weight"]:
            del tensors[name]

    plain = published(drop_the_head)
    asked = {"head": "verdict", "question": "a_or_b", "verdicts": ["a", "b"]}
    loaded = load_preference_model(plain, asked)
    assert loaded.spec.kind == "pairwise" and loaded.spec.verdict_tokens == tuple(tokenizer("ab").input_ids[-2:])
    assert load_preference_model(plain, asked | {"question": "yes_or_no"}).spec.kind == "bt"
    assert ("lm_head" in loaded.params["decoder"]) != loaded.config.tie_embeddings
    assert "heads" not in loaded.params
    with pytest.raises(ValueError, match="no saved head"):
        load_preference_model(plain)


def test_a_declared_verdict_does_not_drop_a_trained_head(published):
    with pytest.raises(ValueError, match="head is declared as 'verdict', but the model has a saved head"):
        load_preference_model(published(), {"head": "verdict", "question": "yes_or_no"})


def test_a_verifier_is_read_back_with_its_tokens(tmp_path, config, tiny_params, tokenizer):
    params = {"decoder": tiny_params(config)["decoder"]}
    save_preference_model(tmp_path / "m", params, config, VERIFIER, tokenizer)
    loaded = load_preference_model(str(tmp_path / "m"))
    assert loaded.spec.verdict_tokens and loaded.spec.verdicts == ("a", "b")
    assert_same(loaded.params, params)


MEAN, STD = 0.75, 3.5


@pytest.fixture
def openrlhf(tmp_path, config, tiny_params, tokenizer):
    """(directory, w) of a reward model in OpenRLHF's form: a classifier with mean and std in config.json."""
    params = tiny_params(config, BT)
    save_preference_model(tmp_path / "m", params, config, BT, tokenizer, "sequence_classification")
    file = tmp_path / "m" / "config.json"
    described = {name: value for name, value in json.loads(file.read_text()).items() if name != "gpmjax"}
    file.write_text(
        json.dumps(described | {"mean": MEAN, "std": STD, "normalize_reward": False, "value_head_prefix": "score"})
    )
    return str(tmp_path / "m"), params["heads"]["value"]["kernel"][:, 0]


def rewards_of(model, hidden):
    return PreferenceHeads(model.spec).apply({"params": model.params["heads"]}, hidden, hidden)


def test_mean_and_std_are_applied_and_keep_probabilities(openrlhf, config):
    directory, w = openrlhf
    model = load_preference_model(directory)
    assert (model.spec.reward_mean, model.spec.reward_std) == (MEAN, STD)
    hidden = np.random.default_rng(0).normal(size=(1, 5, config.hidden_size)).astype(np.float32)
    output, r = rewards_of(model, hidden), hidden @ w
    np.testing.assert_allclose(output.reward, (r - MEAN) / STD, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output.embedding[..., 0], output.reward)
    np.testing.assert_allclose(
        group_scores(output)[0] / output.tau, r[0][:, None] - r[0][None, :], rtol=1e-4, atol=1e-5
    )
    plain = load_preference_model(directory, {"reward_mean": 0.0, "reward_std": 1.0})
    np.testing.assert_allclose(rewards_of(plain, hidden).reward, r, rtol=1e-5, atol=1e-6)
    assert plain.spec == BT


@pytest.mark.parametrize("form", ["native", "sequence_classification"])
def test_mean_and_std_are_exported_again(tmp_path, openrlhf, config, tiny_params, tokenizer, form):
    model = load_preference_model(openrlhf[0])
    save_preference_model(tmp_path / "again", tiny_params(config, BT), config, model.spec, tokenizer, form)
    file = tmp_path / "again" / "config.json"
    described = json.loads(file.read_text())
    assert (described["mean"], described["std"]) == (MEAN, STD)
    assert load_preference_model(str(tmp_path / "again")).spec == model.spec
    file.write_text(json.dumps(described | {"std": 2.0}))
    with pytest.raises(ValueError, match="config.json: gpmjax.reward_std is 3.5, std is 2.0; must be equal"):
        load_preference_model(str(tmp_path / "again"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": None}, "config.json: mean=None: must be a number"),
        ({"std": 0.0}, "config.json: std=0.0: must be positive and finite"),
        ({"std": "3"}, "config.json: std='3': must be a number"),
        ({"mean": float("nan")}, "config.json: mean=nan: must be finite"),
        ({"std": ...}, "config.json: has mean alone; must have mean and std"),
    ],
)
def test_invalid_mean_and_std_are_refused(openrlhf, change, message):
    file = Path(openrlhf[0]) / "config.json"
    described = json.loads(file.read_text()) | change
    file.write_text(json.dumps({name: value for name, value in described.items() if value is not ...}))
    with pytest.raises(ValueError, match=message):
        load_preference_model(openrlhf[0])


def test_only_a_reward_has_mean_and_std(published):
    file = Path(published()) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"mean": MEAN, "std": STD}))
    with pytest.raises(ValueError, match="reward_mean is 0.75; only kind='bt'"):
        load_preference_model(str(file.parent), DECLARED)
