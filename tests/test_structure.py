"""The house rules that a machine can check: which way imports point, what may be imported, and every config's step."""

import ast
import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.arrays import Comparisons, TokenBatch, TokenLayout
from gpmjax.config import Config, load_config
from gpmjax.config.overrides import unknown_override
from gpmjax.fit.step import make_train_step
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.presets import PRESETS
from gpmjax.train.optimizer import ALL_BUT_ADAPTERS, make_optimizer, split_params
from gpmjax.train.state import TrainState

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gpmjax"

# Storeys, from the ground up; a module imports from its own room and from storeys below. Rooms of one storey are apart,
# but for the pairs in NEIGHBOURS.
STOREYS = (
    {"arrays", "checks", "chips", "compilation_cache", "files", "pods", "sharding", "version"},
    {"owner", "preference", "softcap"},
    {"losses", "models", "data"},
    {"config", "feature_store"},
    {"distributed"},
    {"progress"},
    {"hub", "sampling"},
    {"train", "judges"},
    {"fit", "improve", "evals", "aot"},
    {"reports", "interop"},
    {"commands"},
)
NEIGHBOURS = {("aot", "fit"), ("aot", "improve"), ("fit", "evals")}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> set[str]:
    """Modules of gpmjax, and top-level names of others, that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{alias.name}" if node.module == "gpmjax" else node.module for alias in node.names}
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    here, *below = path.relative_to(PACKAGE).with_suffix("").parts
    plots = here == "reports" and below[0] == "plots"
    storey = {name: level for level, rooms in enumerate(STOREYS) for name in rooms}
    for module in imports(path):
        assert module.split(".")[0] not in ("torch", "tensorflow", "matplotlib") or plots, module
        if not module.startswith("gpmjax"):
            continue
        there = room(module)
        assert there, f"{here} imports all of gpmjax"
        # Plots read files, by the one reader that every room has, and import nothing else of gpmjax, so that they need
        # no JAX; nothing but commands imports plots.
        if plots and module == "gpmjax.files":
            continue
        assert here == "commands" or plots == module.startswith("gpmjax.reports.plots"), f"{here} imports {module}"
        assert there == here or storey[there] < storey[here] or (here, there) in NEIGHBOURS, f"{here} imports {module}"


def test_files_are_of_a_readable_size():
    sizes = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in FILES}
    assert {path: size for path, size in sizes.items() if size > 400} == {}


# Public names that several modules define: the folder in which they may, and the reason. An entry without use is an
# error.
BENCHMARK = "evals/benchmarks", "hook of one contract: every benchmark has it"
KERNEL = "models/attention", "hook of one contract: every attention kernel has it"
COMMAND = "commands", "an entry point: every command has one"
SHARED_NAMES = {
    "main": COMMAND,
    "backward": KERNEL,
    "forward": KERNEL,
    "leaderboard": BENCHMARK,
    "parse": BENCHMARK,
    "summarise": BENCHMARK,
}


def public_names(path: Path) -> set[str]:
    """The functions and classes that a module defines at its top level without a leading underscore."""
    kinds = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, kinds) and node.name[0] != "_"}


def test_a_public_name_means_one_thing():
    homes: dict[str, list[Path]] = {}
    for path in FILES:
        for name in public_names(path):
            homes.setdefault(name, []).append(path.relative_to(PACKAGE))
    shared = {name: paths for name, paths in homes.items() if len(paths) > 1}
    allowed = {
        name: {path for path in FILES if path.is_relative_to(PACKAGE / folder)}
        for name, (folder, _) in SHARED_NAMES.items()
    }
    wrong = {
        name: paths
        for name, paths in shared.items()
        if not {PACKAGE / path for path in paths} <= allowed.get(name, set())
    }
    assert wrong == {}
    assert SHARED_NAMES.keys() - shared.keys() == set(), "exceptions that no longer apply"


@pytest.mark.parametrize("page", ["map.md", "architecture.md"])
def test_paths_and_names_in_the_pages_on_the_code_exist(page):
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    found = {line: re.findall(r"`((?:gpmjax|launch|tests|configs)/[\w./]*)`", line) for line in lines}
    paths = sorted({path for named in found.values() for path in named})
    assert len(paths) > 10 and [path for path in paths if not (ROOT / path).exists()] == []
    for line, named in found.items():  # a row of the map names functions of its file
        if line.startswith("| ") and named and named[0].endswith(".py") and page == "map.md":
            last = line.split("|")[-2]
            text = (ROOT / named[0]).read_text(encoding="utf-8")
            for name in re.findall(r"`(\w+)`", last):
                assert re.search(rf"\b{name}\b", text), f"{named[0]}: no {name}"


def test_nothing_is_suppressed():
    marks = ("# no" + "qa", "type: " + "ignore", "pyrefly: " + "ignore", "pytest.mark." + "skip", "x" + "fail")
    for path in [*FILES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("launch/**/*.py")]:
        assert not [mark for mark in marks if mark in path.read_text()], path


PROGRAMS = [path for folder in ("launch", "benchmarks") for path in sorted(ROOT.glob(f"{folder}/**/*.py"))]


@pytest.mark.parametrize("path", [*FILES, *PROGRAMS], ids=lambda path: str(path.relative_to(ROOT)))
def test_text_files_are_utf8_whatever_the_locale(path):
    assert calls_in_the_locale(path.read_text(encoding="utf-8")) == []


def calls_in_the_locale(source: str) -> list[str]:
    """The calls in a module that read or write text in whatever encoding the user's locale has.

    >>> source = "Path('a').read_text(); open('b'); path.open('a', buffering=1); open('c', 'rb'); zipfile.open(name)"
    >>> calls_in_the_locale(source)
    ["Path('a').read_text()", "open('b')", "path.open('a', buffering=1)"]
    """
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        keywords = {keyword.arg for keyword in call.keywords}
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        modes = [
            node.value
            for node in values
            if isinstance(node, ast.Constant) and set(str(node.value)) & set("rwax") and len(str(node.value)) < 4
        ]
        # Path.open takes a mode alone; the methods of that name that are given a file are those of archives and of our
        # own.
        opens = name in ("open", "fdopen", "NamedTemporaryFile") and (
            isinstance(call.func, ast.Name) or not call.args or bool(modes)
        )
        opens = opens and not any("b" in mode for mode in modes)
        if "encoding" not in keywords and (
            name in ("read_text", "write_text") or opens or {"text", "universal_newlines"} & keywords
        ):
            found.append(ast.unparse(call))
    return found


PREFERENCE_CONFIGS = [
    path
    for path in sorted((ROOT / "configs").glob("*.py"))
    if path.stem.split("_")[0] in ("demo", "gpm", "bt", "hybrid", "pairpm", "genrm")
]
BACKBONES = {
    "smollm2": "smollm2-135m",
    "google/gemma-2b-it": "gemma-2b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama31-8b",
}


def abstract_batch(rows: int, tokens: int) -> TokenBatch:
    """Shapes of rows with one pair each."""

    def ints(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.int32)

    def floats(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    return TokenBatch(
        tokens=ints(rows, tokens),
        layout=TokenLayout(ints(rows, tokens), ints(rows, tokens), ints(rows, tokens)),
        response_end=ints(rows, 2),
        prompt_end=ints(rows, 2),
        response_mask=jax.ShapeDtypeStruct((rows, 2), jnp.bool_),
        previous=ints(rows, tokens),
        lm_weight=floats(rows, tokens),
        comparisons=Comparisons(
            ints(rows, 1), ints(rows, 1), floats(rows, 1), floats(rows, 1), floats(rows, 1), ints(rows, 1)
        ),
    )


@pytest.mark.parametrize("path", PREFERENCE_CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_valid_and_its_step_has_the_right_shapes(path):
    config = load_config(path).validate()
    assert "Command" in (header := load_header(path)) and "Expected" in header and "Hardware" in header
    spec = config.model.spec()
    if spec.head == "verdict":
        spec = dataclasses.replace(spec, verdict_tokens=(0, 1))  # the tokenizer's to say
    model = PreferenceModel(PRESETS[BACKBONES[config.model.source]], spec, config.model.runtime())
    batch = abstract_batch(config.data.rows, config.data.max_length)
    params = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    freeze = config.model.freeze + ((ALL_BUT_ADAPTERS,) if config.model.lora_rank else ())
    trainable, frozen = split_params(params, freeze)
    optimizer = make_optimizer(config.optimizer, steps=100)
    state = TrainState(jax.ShapeDtypeStruct((), jnp.int32), trainable, jax.eval_shape(optimizer.init, trainable))
    step = make_train_step(model, optimizer, config.loss, config.optimizer.accumulate)
    after, metrics = jax.eval_shape(step, state, frozen, batch)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    assert metrics["loss"].shape == () and metrics["loss"].dtype == np.float32
    assert metrics["example_loss"].shape == batch.comparisons.number.shape


def load_header(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text()))


def test_bradley_terry_configs_differ_from_their_siblings_by_the_head_alone():
    for path in PREFERENCE_CONFIGS:
        if path.stem.startswith("bt_"):
            scalar, general = load_config(path), load_config(path.with_name(path.name.replace("bt_", "gpm_")))
            assert scalar.model.kind == "bt"
            general.model, general.loss.curl = scalar.model, "0"
            assert scalar == general


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.model.dimm=4", "--config.model.dimm: no such field; config.model has source"),
        ("--config.modle.dim=4", "--config.modle.dim: no such field; config has seed"),
        ("--config.seed.x=4", "--config.seed.x: no such field; config.seed has no fields"),
    ],
)
def test_misspelt_fields_are_explained(flag, message):
    assert unknown_override(Config(), flag).startswith(message)
    assert unknown_override(Config(), "--config.model.dim=4") is None
