"""What `make demo` runs: Bradley–Terry and GPM on cyclic preferences, side by side.

    gpmjax demo --workdir=runs/demo

For each set of comparisons it fits three pairs of heads on a frozen SmolLM2-135M-Instruct: a scalar reward by the usual
cross-entropy, a scalar reward for accuracy alone, and a general preference model. It prints a table, draws
pictures, and leaves everything in the workdir; summary.json holds the table.
"""

import sys
from pathlib import Path

from absl import flags, logging
from rich.console import Console
from rich.table import Table

from gpmjax.config import Config, load_config
from gpmjax.data.cyclic import bt_ceiling
from gpmjax.data.group_files import read_groups
from gpmjax.files import write_json
from gpmjax.fit.fit import fit
from gpmjax.reports.plots.folder import draw_run

WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Where everything goes.")
SEED = flags.DEFINE_integer("seed", 0, "Of the heads.")

SETS = {
    "letters": "builtin:letters",
    "rock_paper_scissors": "builtin:rock_paper_scissors",
    "transitive": "builtin:transitive?n=4",
}
# On a cycle the cross-entropy's best scalar is a tie (Jensen), so its accuracy is chance; the fair baseline is a scalar
# that is trained for accuracy itself.
MODELS = ("bt_cross_entropy", "bt", "gpm")


def model_config(model: str, source: str, seed: int, features: Path) -> Config:
    """The demo's config for one model on one set."""
    config = load_config("demo")
    assert isinstance(config, Config)
    config.seed, config.data.train, config.data.eval = seed, (source,), (source,)
    config.model.feature_cache = str(features)
    if model != "gpm":
        config.model = config.model.as_bradley_terry()
    if model == "bt":
        config.loss.objective = "expected_error"
    if (model, source) != ("gpm", SETS["letters"]):
        config.export = "none"  # one exported model is enough to show: half a gigabyte each
    return config


def fit_every_model(workdir: Path, seed: int) -> dict:
    """Fits every model on every set; returns the summary."""
    cells = []
    for name, source in SETS.items():
        ceiling = bt_ceiling(read_groups(source))
        for model in MODELS:
            folder = workdir / name / model
            summary = fit(model_config(model, source, seed, workdir / "features"), folder)
            if summary["status"] != "finished":
                sys.exit(f"stopped at step {summary['step']} of {folder}; the same command goes on")
            figures = summary["eval"][source]
            draw_run(folder, title=f"{model} on {name}")
            cells.append(
                {
                    "model": model,
                    "set": name,
                    "accuracy": figures["accuracy"],
                    "ceiling": ceiling,
                    "seed": seed,
                    "nll": figures["nll"],
                    "ties": figures["ties"],
                    "comparisons": figures["comparisons"],
                }
            )
    # The cross-entropy's scalar ties, so its accuracy says nothing: it is reported apart, with its likelihood.
    return {
        "table": [cell for cell in cells if cell["model"] in ("bt", "gpm")],
        "bt_cross_entropy": [cell for cell in cells if cell["model"] == "bt_cross_entropy"],
    }


def table(summary: dict) -> Table:
    """BT against GPM, set by set."""
    view = Table(title="Accuracy on the training comparisons (SmolLM2-135M-Instruct, frozen)", min_width=88)
    view.add_column("set", no_wrap=True)
    for column in ("comparisons", "BT ceiling", "BT, −log σ", "BT, for accuracy", "GPM"):
        view.add_column(column, justify="right")
    cells = {(cell["set"], cell["model"]): cell for cell in summary["table"] + summary["bt_cross_entropy"]}
    for name in SETS:
        row = [cells[name, model] for model in MODELS]
        view.add_row(
            name, str(row[0]["comparisons"]), f"{row[0]['ceiling']:.1%}", *(f"{cell['accuracy']:.1%}" for cell in row)
        )
    return view


def main(_: list[str]) -> None:
    """Fits every model on every set, and prints the table."""
    logging.set_verbosity(logging.WARNING)
    workdir = Path(WORKDIR.value)
    try:
        summary = fit_every_model(workdir, SEED.value)
        write_json(workdir / "summary.json", summary)
        draw_run(workdir)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    Console().print(table(summary))
    print(f"pictures: {workdir}/plots and {workdir}/letters/gpm/plots; table: {workdir}/summary.json")
