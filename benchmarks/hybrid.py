"""Bradley–Terry, GPM and the hybrid on ten sets of preferences with one configuration; figures of docs/results.

    python benchmarks/hybrid.py --data=DIRECTORY --workdir=runs/hybrid --seeds=0,1,2,3,4

The models are heads of configs/hybrid_smollm2.py on the frozen SmolLM2-135M-Instruct. They are fitted with the batches,
step and optimiser of launch/train.py, many fits in one vmapped program (tests/fit/test_regulariser.py compares a member
of that program with the plain step). The seed splits a set's prompts where the set has no split of its own. Features
are cached in the work directory. hybrid_sets.py defines each set and how much of it is read.
"""

import dataclasses
import datetime
import json
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from hybrid_sets import SETS
from rich.console import Console
from rich.table import Table
from scipy import special

from gpmjax.arrays import FeatureBatch
from gpmjax.config import Config, LossConfig, load_config
from gpmjax.data.assemble import assemble_features
from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import EncodedGroup, encode_groups
from gpmjax.data.grouping import split_group
from gpmjax.data.groups import Group
from gpmjax.data.pipeline import Pipeline, fit_shape
from gpmjax.feature_store import FeatureStore
from gpmjax.files import write_json
from gpmjax.fit.curl_path import choose_price, fit_members, prices, targets_of, weigh_cyclic_part
from gpmjax.fit.features import GroupFeatures, encode_missing, feature_encoder
from gpmjax.fit.folds import Folds, make_folds, standard_error
from gpmjax.fit.step import make_train_step
from gpmjax.models.heads import PreferenceHeads
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.scores import pair_scores
from gpmjax.models.spec import PreferenceSpec
from gpmjax.sharding import make_mesh
from gpmjax.train.backbone import open_backbone
from gpmjax.train.optimizer import make_optimizer
from gpmjax.train.state import TrainState

DATA = flags.DEFINE_string("data", None, "Directory of the data files.", required=True)
WORKDIR = flags.DEFINE_string("workdir", "runs/hybrid", "Directory of the cached features.")
OUT = flags.DEFINE_string("out", "benchmarks/results/hybrid.json", "File of the figures.")
ONLY = flags.DEFINE_list("only", [], "Sets to run; all when empty. The rows of other sets in --out are kept.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds of heads, order of the data, folds, and split.")

CONFIGS = Path(__file__).parent.parent / "configs"
WINDOW = 2048


class Model(NamedTuple):
    """A head, and its optimiser's decay."""

    spec: PreferenceSpec
    weight_decay: float = 0.0
    gate_penalty: str = "0"


PLAIN = dict(gate="none", normalise="none", tau=1.0)
MODELS = {
    "bt": Model(PreferenceSpec.bradley_terry()),
    "gpm": Model(PreferenceSpec(dim=8, gate="softmax", normalise="l2", tau=0.1)),
    "gpm plain": Model(PreferenceSpec(dim=8, **PLAIN)),
    "gpm decay": Model(PreferenceSpec(dim=8, **PLAIN), weight_decay=100.0),
    "gpm gate": Model(PreferenceSpec(dim=8, gate="softmax", normalise="none", tau=1.0)),
    "hybrid": Model(PreferenceSpec(kind="hybrid", dim=8, **PLAIN)),
    "hybrid gate": Model(
        PreferenceSpec(kind="hybrid", dim=8, gate="scaled_softmax", normalise="none", tau=1.0), gate_penalty="auto"
    ),
}
"""bt: Bradley–Terry. gpm: the released settings (unit length, τ = 0.1, softmax gate). gpm plain: without these, like
configs/gpm_plain_smollm2.py. gpm decay: gpm plain with AdamW's decay. gpm gate: gpm plain with a softmax gate. hybrid:
loss.curl="auto". hybrid gate: the hybrid with a gate whose penalty is chosen too."""


@dataclasses.dataclass
class Bench:
    """The backbone's features and the configuration, which all sets share."""

    config: Config
    workdir: Path

    def __post_init__(self):
        self.mesh = make_mesh()
        self.backbone = open_backbone(self.config.model, self.mesh, 0)
        self.chat = ChatFormat(self.backbone.tokenizer, template=self.config.data.template)
        self.hidden = self.backbone.model.config.hidden_size
        self.store = FeatureStore(self.workdir / "features", self.backbone.fingerprint(), self.hidden)
        self.features = GroupFeatures(self.store)
        self.encode = feature_encoder(self.backbone.model, self.backbone.load_decoder, self.mesh)

    def prepare(self, groups: Sequence[Group]) -> list[EncodedGroup]:
        """Groups as pairs of a prompt, with comparisons numbered from 0 and features in the cache."""
        encoded, _ = encode_groups(groups, self.chat, max_length=WINDOW)
        numbered, row = [], 0
        for group in encoded:
            renamed = tuple(c._replace(number=row + n) for n, c in enumerate(group.comparisons))
            numbered.append(group._replace(comparisons=renamed))
            row += len(renamed)
        pieces = [
            group._replace(responses=group.responses[n : n + 8], comparisons=())
            for group in encoded
            for n in range(0, len(group.responses), 8)
        ]
        encode_missing(pieces, self.store, self.encode, rows=4, row_length=1024)
        return [piece for group in numbered for piece in split_group(group, row_length=2 * WINDOW, max_responses=2)]

    def batch(self, pipeline: Pipeline, step: int) -> FeatureBatch:
        return assemble_features(pipeline.rows(step), pipeline.shape, self.features, hidden_size=self.hidden)

    def ordered(self, groups: Sequence[EncodedGroup]) -> Iterator[FeatureBatch]:
        pipeline = Pipeline(
            [groups], fit_shape(groups, rows=self.config.data.rows, packing="single"), order="ordered", packing="single"
        )
        return (self.batch(pipeline, step) for step in range(pipeline.steps(1)))

    def heads(self, spec: PreferenceSpec, seed: int) -> Any:
        feature = jnp.zeros((1, 1, self.hidden))
        return jax.device_get(
            PreferenceHeads(spec).init(jax.random.fold_in(jax.random.key(seed), 1), feature, feature)["params"]
        )


class Measured(NamedTuple):
    """One model's log-odds of the held-out comparisons, and the chosen price of a cycle."""

    log_odds: np.ndarray
    curl: float | str | None = None
    gate_penalty: float | None = None


def run(bench: Bench, train: list[EncodedGroup], held_out: list[EncodedGroup], seed: int) -> dict[str, Measured]:
    """Fits every model on ``train`` and scores ``held_out``."""
    config = bench.config
    count = sum(len(group.comparisons) for group in train)
    pipeline = Pipeline([train], fit_shape(train, rows=config.data.rows, packing="single"), seed=seed, packing="single")
    steps = max(pipeline.steps(config.epochs), config.least_steps)

    def stream() -> Iterator[FeatureBatch]:
        return (bench.batch(pipeline, step) for step in range(steps))

    found = {}
    for name, model in MODELS.items():
        net = bench.backbone.model.clone(spec=model.spec)
        optimizer = make_optimizer(dataclasses.replace(config.optimizer, weight_decay=model.weight_decay), steps)
        heads = bench.heads(model.spec, seed)
        if model.spec.kind != "hybrid":
            found[name] = Measured(read(net, fit_plain(net, heads, optimizer, stream()), bench.ordered(held_out))[0])
            continue
        loss = LossConfig(curl="auto", gate_penalty=model.gate_penalty)
        labels = targets_of(train, count)
        folds = make_folds([train], count, loss.folds, seed)
        choice = choose_price(net, heads, optimizer, loss, folds, stream(), lambda: bench.ordered(train), labels)
        everything = Folds("nothing", np.ones((1, count), bool), np.zeros((1, count), bool), folds.first, folds.second)
        points = prices(loss, model.spec.gate != "none")
        points += [choice.price] if choice.price not in points else []
        fitted = fit_members(net, heads, optimizer, loss, [(price, 0) for price in points], everything, stream())
        odds = read(net, fitted, bench.ordered(held_out), [price.curl < np.inf for price in points])
        if name == "hybrid":
            for price, one in zip(points, odds, strict=True):
                found[f"hybrid curl={price.curl:g}"] = Measured(one, price.curl)
        chosen = points.index(choice.price)
        found[name] = Measured(odds[chosen], choice.price.curl, choice.price.gate_penalty)
    return found


def fit_plain(net: PreferenceModel, heads: Any, optimizer: Any, batches: Iterator[FeatureBatch]) -> Any:
    """{"heads": …} after one ordinary fit, with a leading axis of one member."""
    step = jax.jit(make_train_step(net, optimizer, LossConfig()), donate_argnums=0)
    params = {"heads": jax.tree.map(jnp.asarray, heads)}
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
    for batch in batches:
        state, _ = step(state, {}, batch)
    return jax.tree.map(lambda leaf: leaf[None], state.params)


def read(
    net: PreferenceModel, params: Any, batches: Iterator[FeatureBatch], cyclic: Sequence[bool] | None = None
) -> np.ndarray:
    """[members, n] log-odds of every comparison, in the order of their numbers."""

    def one(params: Any, gamma: jax.Array, batch: FeatureBatch) -> jax.Array:
        output = net.apply({"params": params}, batch)
        if net.spec.kind == "hybrid":
            output = weigh_cyclic_part(output, gamma)
        return pair_scores(output, batch.comparisons) / output.tau

    members = len(jax.tree.leaves(params)[0])
    gammas = np.ones(members, np.float32) if cyclic is None else np.array(cyclic, np.float32)
    every = jax.jit(jax.vmap(one, in_axes=(0, 0, None)))
    rows, odds = [], []
    for batch in batches:
        real = np.asarray(batch.comparisons.number) >= 0
        rows.append(np.asarray(batch.comparisons.number)[real])
        odds.append(np.asarray(every(params, gammas, batch))[:, real])
    order = np.argsort(np.concatenate(rows))
    return np.concatenate(odds, axis=1)[:, order].astype(np.float64)


class Labels(NamedTuple):
    """Held-out comparisons [n]: the label, and the units within which comparisons are dependent."""

    target: np.ndarray
    first: np.ndarray
    second: np.ndarray


def labels_of(groups: Sequence[EncodedGroup], names: dict[bytes, int]) -> Labels:
    """Labels of the comparisons. Units are prompts, or responses where all comparisons are of one prompt.

    ``names`` keeps the units' numbers, which are the same for all seeds.
    """
    one_prompt = len({group.prompt.tobytes() for group in groups}) == 1

    def number(key: bytes) -> int:
        return names.setdefault(key, len(names))

    found = {}
    for group in groups:
        for c in group.comparisons:
            prompt = group.prompt.tobytes()
            sides = (group.responses[c.chosen].tobytes(), group.responses[c.rejected].tobytes())
            units = tuple(number(prompt + side) for side in sides) if one_prompt else (number(prompt),) * 2
            found[c.number] = (c.target, *units)
    target, first, second = zip(*(found[row] for row in sorted(found)), strict=True)
    return Labels(np.array(target), np.array(first), np.array(second))


def losses(odds: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy [n] and NLL [n] of each comparison; a tie of the model counts one half."""
    nll = -target * special.log_expit(odds) - (1 - target) * special.log_expit(-odds)
    return 0.5 + 0.5 * np.sign(odds) * np.sign(target - 0.5), nll


def differences(name: str, runs: Sequence[tuple[dict[str, Measured], Labels]]) -> list[dict[str, Any]]:
    """Paired differences of models over the comparisons of all seeds; errors are clustered by prompt (or response)."""
    found = []
    for mine, other in (
        ("hybrid", "bt"),
        ("hybrid", "gpm"),
        ("hybrid", "gpm plain"),
        ("hybrid gate", "hybrid"),
        ("gpm gate", "gpm plain"),
    ):
        first, second = (np.concatenate([getattr(labels, side) for _, labels in runs]) for side in ("first", "second"))
        both = [[losses(models[one].log_odds, labels.target) for one in (mine, other)] for models, labels in runs]
        row = {"set": name, "model": mine, "less": other}
        for n, figure in enumerate(("accuracy", "nll")):
            gap = np.concatenate([a[n] - b[n] for a, b in both])
            error = standard_error(gap, np.ones(len(gap)), first, second)
            row |= {
                figure: float(gap.mean()),
                f"{figure}_interval": [float(gap.mean() - 1.96 * error), float(gap.mean() + 1.96 * error)],
            }
        found.append(row)
    return found


def measure(bench: Bench, name: str, data: Path, seeds: Sequence[int]) -> tuple[list[dict], list[dict]]:
    """Rows (one per model and seed) and differences of one set."""
    rows, runs, names = [], [], {}
    for seed in seeds:
        train, held_out = (bench.prepare(groups) for groups in SETS[name](data, seed))
        labels = labels_of(held_out, names)
        models = run(bench, train, held_out, seed)
        runs.append((models, labels))
        for model, found in models.items():
            right, nll = losses(found.log_odds, labels.target)
            rows.append(
                {
                    "set": name,
                    "model": model,
                    "dim": 1 if model == "bt" else 8,
                    "seed": seed,
                    "accuracy": float(right.mean()),
                    "nll": float(nll.mean()),
                    "comparisons": len(right),
                    "curl_chosen": "inf" if found.curl == np.inf else found.curl,
                    **({"gate_penalty_chosen": found.gate_penalty} if model == "hybrid gate" else {}),
                    "train_comparisons": sum(len(group.comparisons) for group in train),
                    "train_prompts": len({group.prompt.tobytes() for group in train}),
                    "held_out_prompts": len({group.prompt.tobytes() for group in held_out}),
                }
            )
    return rows, differences(name, runs)


def table(report: dict[str, Any]) -> Table:
    """Table of means over seeds."""
    view = Table(title="held-out accuracy, % / NLL: means over seeds")
    for column in ("set", *MODELS, "curl chosen", "hybrid − bt, points", "hybrid − gpm, points"):
        view.add_column(column)
    for name in dict.fromkeys(row["set"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["set"] == name]
        cells = []
        for model in MODELS:
            same = [row for row in rows if row["model"] == model]
            cells.append(
                f"{100 * np.mean([r['accuracy'] for r in same]):.1f} / {np.mean([r['nll'] for r in same]):.3f}"
            )
        chosen = ", ".join(str(row["curl_chosen"]) for row in rows if row["model"] == "hybrid")
        gaps = [row for row in report["differences"] if row["set"] == name and row["model"] == "hybrid"]
        view.add_row(name, *cells, chosen, *map(points, gaps[:2]))
    return view


def points(gap: dict[str, Any]) -> str:
    """A difference of accuracies and its interval, in points."""
    low, high = gap["accuracy_interval"]
    return f"{100 * gap['accuracy']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def processor() -> str:
    """The processor's name, where Linux has it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def main(_: list[str]) -> None:
    out = Path(OUT.value)
    report = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"rows": [], "differences": []}
    config = load_config(CONFIGS / "hybrid_smollm2.py")
    bench = Bench(config, Path(WORKDIR.value))
    seeds = [int(seed) for seed in SEEDS.value]
    for name in ONLY.value or SETS:
        rows, gaps = measure(bench, name, Path(DATA.value), seeds)
        kept = {key: [row for row in report[key] if row["set"] != name] for key in ("rows", "differences")}
        report = {
            "command": f"python benchmarks/hybrid.py --data=DIRECTORY --seeds={','.join(SEEDS.value)}",
            "date": datetime.date.today().isoformat(),
            "machine": f"{processor()}, {jax.device_count()} device",
            "rows": kept["rows"] + rows,
            "differences": kept["differences"] + gaps,
        }
        write_json(out, report)
        Console(width=230).print(table(report))


if __name__ == "__main__":
    app.run(main)
