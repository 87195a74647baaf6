"""float32 models multiply in full float32 on every chip; bfloat16 models use the chip's default."""

import jax
import jax.numpy as jnp
import pytest

from gpmjax.config.judge import JudgeConfig, ScorerConfig
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.judges.forward import make_scorer
from gpmjax.models.config import Runtime
from gpmjax.models.precision import full_precision
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.presets import PRESETS
from gpmjax.models.spec import PreferenceSpec
from gpmjax.sharding import make_mesh


@pytest.mark.parametrize(("dtype", "asked"), [("float32", True), ("bfloat16", False)])
def test_products_of_a_float32_model_ask_for_full_precision(dtype, asked):
    product = full_precision(dtype, lambda a, b: a @ b)
    ones = jnp.ones((2, 2), dtype)
    assert ("HIGHEST" in str(jax.make_jaxpr(product)(ones, ones))) == asked


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_product_of_a_float32_judge_asks_for_full_precision(dtype):
    model = PreferenceModel(PRESETS["tiny"], PreferenceSpec(dim=4, gate="none"), Runtime(dtype=dtype))
    batch = assemble([[]] * 8, BatchShape(8, 16, 2, 1))
    params = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    scorer = make_scorer(model, params, make_mesh())
    text = scorer.func.lower(params, batch).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    full = [line for line in products if "HIGHEST" in line]
    assert full and (len(full) == len(products)) == (dtype == "float32")


def test_judges_and_scorers_default_to_float32():
    assert ScorerConfig().dtype == JudgeConfig("m").dtype == "float32"
