"""Compile a run for TPU slices that are not here, and say whether it fits and no less than how long a step takes.

    pip install -e '.[tpu]'
    gpmjax compile --config=configs/gpm_llama31_8b.py --topology=v5e:8x8,v5p:2x4x4 [--out=plan.json]

The step is the one that launch/train.py runs, a fit's or a policy's; nothing is downloaded for models whose shapes are
known (--preset names others). Exits 1 when a topology is too small, saying what to change. v5e and v6e slices are AxB
chips, v4 and v5p AxBxC; Google's v5p-64 has 64 cores, hence 32 chips: v5p:2x4x4. Memory is the compiler's own account;
step times are lower bounds from published peaks, never measurements. GPUs, such as h100:8, are not compiled for: their
memory is predicted from shapes.
"""

import datetime
import sys
from pathlib import Path

import jax
from absl import flags, logging
from ml_collections import config_flags
from rich.console import Console

from gpmjax.aot.estimate import Prediction, predict
from gpmjax.aot.program import DoesNotFit, compile_step, slice_devices
from gpmjax.aot.report import USABLE_BY_FORMULA, Report, advice, predictions_table, report, reports_table
from gpmjax.aot.topology import USABLE, gpus, slice_chips
from gpmjax.aot.workload import Workload, decoder_shape, fit_workload, largest_batch_shape, policy_workload
from gpmjax.chips import GIB
from gpmjax.config.improve import ImproveConfig
from gpmjax.files import write_json
from gpmjax.owner import check_output_directory, owned_output

CONFIG = config_flags.DEFINE_config_file("config", None, "A file with get_config(), such as configs/gpm_llama31_8b.py.")
TOPOLOGY = flags.DEFINE_list("topology", None, "Slices, such as v5e:4x4,v5p:2x2x2.", required=True)
PRESET = flags.DEFINE_string("preset", "", "Decoder shape (gpmjax/models/presets.py), where the source names none.")
ROW_LENGTH = flags.DEFINE_integer(
    "row_length", 0, "A fit's token slots of a row; 0: config.data.row_length, or twice max_length.", 0
)
RESPONSES = flags.DEFINE_integer("responses", 2, "A fit's responses of a row.", 2)
COMPARISONS = flags.DEFINE_integer("comparisons", 1, "A fit's comparisons of a row.", 1)
OUT = flags.DEFINE_string("out", "", "JSON file for every figure.")
HLO = flags.DEFINE_string("hlo", "", "Folder for the compiled programs' text, one file a topology.")


def described() -> Workload:
    """What the config's runs do, in shapes."""
    config = CONFIG.value
    if isinstance(config, ImproveConfig):
        return policy_workload(config, decoder_shape(config.policy.source, PRESET.value))
    shape = largest_batch_shape(
        config, row_length=ROW_LENGTH.value, responses=RESPONSES.value, comparisons=COMPARISONS.value
    )
    return fit_workload(config, decoder_shape(config.model.source, PRESET.value), shape)


def compile_for(topology: str, workload: Workload) -> Report:
    """Compiles for one TPU slice."""
    chip, chips = slice_chips(topology)
    compiled = compile_step(CONFIG.value, workload, slice_devices(topology))
    if HLO.value:
        (Path(HLO.value) / f"{topology.replace(':', '_')}.txt").write_text(compiled.text, encoding="utf-8")
    return report(topology, chip, chips, workload, compiled)


def foresee(
    workload: Workload,
    reports: list[Report],
    predictions: list[tuple[str, Prediction, float]],
    refused: dict[str, str],
) -> None:
    """Compiles for every topology, or predicts its memory; each result is added, and saved, as it comes."""
    tpus = [topology for topology in TOPOLOGY.value if gpus(topology) is None]
    for topology in tpus:
        slice_chips(topology)  # a misspelt last one is no reason to wait for the first
    for topology in [topology for topology in TOPOLOGY.value if topology not in tpus]:
        memory, count = gpus(topology)
        predictions.append((topology, predict(CONFIG.value, workload, count), memory))
        save_reports(reports, predictions, refused)
    for topology in tpus:
        print(f"compiling for {topology} …", file=sys.stderr, flush=True)
        try:
            reports.append(compile_for(topology, workload))
        except DoesNotFit as error:
            refused[topology] = str(error)
        save_reports(reports, predictions, refused)


def main(_: list[str]) -> None:
    """Compiles for every topology, prints what came out, and exits with 1 where one does not fit."""
    jax.config.update("jax_platforms", "cpu")  # whatever accelerator is here has no part in it
    logging.set_verbosity(logging.WARNING)
    config = CONFIG.value
    reports, predictions, refused = [], [], {}
    try:
        config.validate()
        if HLO.value:
            check_output_directory(HLO.value, "--hlo")
        with owned_output(OUT.value):
            workload = described()
            foresee(workload, reports, predictions, refused)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    show_reports(
        reports, predictions, f"{workload.backbone.source}, {workload.rows} rows of {workload.slots} slots a step"
    )
    sys.exit(int(complain(workload, reports, predictions, refused)))


def save_reports(
    reports: list[Report], predictions: list[tuple[str, Prediction, float]], refused: dict[str, str]
) -> None:
    """Writes what is known so far: a compilation can take minutes."""
    if not OUT.value:
        return
    figures = {"date": datetime.date.today().isoformat(), "command": sys.argv, "jax": jax.__version__}
    figures |= {"topologies": [one.to_dict() for one in reports], "do_not_compile": refused}
    figures |= {"predicted_from_shapes": {name: p._asdict() | {"peak": p.peak} for name, p, _ in predictions}}
    write_json(OUT.value, figures)


def show_reports(reports: list[Report], predictions: list[tuple[str, Prediction, float]], title: str) -> None:
    """Prints the tables."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # in a file or a pipe nothing is gained by folding at 80 columns
    if reports:
        console.print(reports_table(reports, title))
    if predictions:
        console.print(predictions_table(predictions, title))


def complain(
    workload: Workload,
    reports: list[Report],
    predictions: list[tuple[str, Prediction, float]],
    refused: dict[str, str],
) -> bool:
    """Says of each topology that is too small what to change; True if there is one."""
    complaints = {name: (error, slice_chips(name)[1], False) for name, error in refused.items()}
    for one in reports:
        if not one.fits:
            size = f"{one.memory.peak / GIB:.2f} GiB of {one.hbm / GIB:.0f}, of which {USABLE:.0%} can be used"
            complaints[one.topology] = size, one.chips, one.memory.arguments > one.memory.temporaries
    for name, p, memory in predictions:
        if p.peak > USABLE_BY_FORMULA * memory:
            size = f"{p.peak / 1e9:.1f} GB predicted of {memory / 1e9:.0f}, "
            size += f"of which {USABLE_BY_FORMULA:.0%} are counted on"
            complaints[name] = size, gpus(name)[1], p.state + p.gradients > p.activations
    for name, (size, chips, state_first) in complaints.items():
        print(f"{name} is too small: {size}\nTo change, what helps most first:")
        print("".join(f"  {line}\n" for line in advice(CONFIG.value, workload, chips, state_first)), end="")
    return bool(complaints)
