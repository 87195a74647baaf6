"""Suite "pipeline": what the host does beside the step. The input pipeline, dispatch, the first step, recompilations.

input          tokens a second that Pipeline.batch assembles, over what a step of the model takes in
dispatch       milliseconds from calling a step until Python has control again, the device still busy; a small model
               with as many arrays as the large one, as time depends on their number
first_step     seconds from the start of a process to its first step's end, without and with the compilation cache
recompilations programs compiled in the second epoch of a packed run
"""

import tempfile
import time
from pathlib import Path

import jax
from absl import app, flags

from benchmarks.speed import jobs, measure, rows
from gpmjax import hub
from gpmjax.compilation_cache import keep_compiled
from gpmjax.data.assemble import BatchShape
from gpmjax.data.chat import ChatFormat
from gpmjax.data.pipeline import Pipeline, fit_shape, prepare
from gpmjax.files import write_json
from gpmjax.models.config import Runtime
from gpmjax.models.presets import PRESETS

DATA = flags.DEFINE_string("data", "", "Pairs for the input pipeline; random ones when empty.")
OUT = flags.DEFINE_string("out", "benchmarks/results/speed_pipeline.json", "Where the figures go.")
QUICK = flags.DEFINE_bool("quick", False, "Two layers.")
LAYERS = flags.DEFINE_integer("layers", 30, "Layers of the model; SmolLM2 has 30.", 1)
REPEATS = flags.DEFINE_integer("repeats", 3, "Of the input pipeline and of steps.", 1)
FIRST_STEP = flags.DEFINE_bool(
    "first_step", False, "Take one step, print the seconds since this process began, and end."
)
CACHE = flags.DEFINE_string("compilation_cache", "", "For --first_step.")

RUNTIME = Runtime(attention="blockwise", remat="dots")
COMPILED = "/jax/core/compile/backend_compile_duration"


def layers() -> int:
    return 2 if QUICK.value else LAYERS.value


def small_batch():
    group = rows.random_groups(1, prompt=128, responses=2, length=64, vocabulary=PRESETS["tiny"].vocab_size)
    return jobs.packed(group, 256)


def first_step() -> float:
    """Seconds since the process began, Python's own start and every import included."""
    if CACHE.value:
        keep_compiled(CACHE.value)
    jobs.Ours(jobs.shape(layers()), RUNTIME).grouped(small_batch())()
    started = time.time() - float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
    ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    return time.time() - (started + ticks / 100)  # clock ticks since boot, a hundred a second on Linux


def first_steps() -> dict:
    """Fresh processes: without a cache, filling one, and reading it."""
    flag = ["--first_step", f"--layers={LAYERS.value}", *(["--quick"] if QUICK.value else [])]
    run = lambda *more: float(measure.fresh_process("benchmarks.speed.pipeline", *flag, *more))
    with tempfile.TemporaryDirectory() as directory:
        cache = f"--compilation_cache={directory}"
        runs = {"no_cache": (), "fills_cache": (cache,), "reads_cache": (cache,)}
        return {name: round(run(*more), 1) for name, more in runs.items()}


def read_groups():
    if not DATA.value:
        return rows.random_groups(800, prompt=150, responses=2, length=80, vocabulary=49_152)
    (groups,) = prepare([DATA.value], ChatFormat(hub.open_source("smollm2").tokenizer()), max_length=1024).sources
    return groups


def input_speed(repeats: int) -> dict:
    """The pipeline's tokens a second against those that a step of 4 rows of 1,024 slots trains on."""
    groups = read_groups()
    shape = fit_shape(groups, rows=4, tokens=max(1024, max(group.size[0] for group in groups)))
    pipeline = Pipeline([groups], shape)
    pipeline.steps(1)
    batches = [pipeline.batch(n) for n in range(min(8, pipeline.steps(1)))]
    tokens = sum(int((batch.layout.group > 0).sum()) for batch in batches)
    step = jobs.Ours(jobs.shape(layers()), RUNTIME).grouped(batches[0])
    seconds = measure.in_turns(
        {"input": lambda: [pipeline.batch(n) for n in range(len(batches))], "step": step}, repeats
    )
    made = [tokens / t for t in seconds["input"]]
    used = [int((batches[0].layout.group > 0).sum()) / t for t in seconds["step"]]
    return {
        "input_tokens_per_second": measure.spread(made),
        "step_tokens_per_second": measure.spread(used),
        "ratio": measure.spread([mine / theirs for mine, theirs in zip(made, used, strict=True)]),
    }


def dispatch_milliseconds(steps: int = 50) -> dict[str, float]:
    ours = jobs.Ours(PRESETS["tiny"], RUNTIME)
    send = ours.dispatched(small_batch())
    jax.block_until_ready(send())
    taken = []
    for _ in range(steps):
        start = time.perf_counter()
        metrics = send()
        taken.append(1e3 * (time.perf_counter() - start))
        jax.block_until_ready(metrics)
    return measure.spread(taken)


def recompilations() -> dict[str, int]:
    """Programs compiled in each of two epochs of packed rows, whose numbers of groups differ from batch to batch."""
    sizes = [dict(prompt=5 + 7 * n, length=4 + n, seed=n) for n in range(12)]
    groups = [group for size in sizes for group in rows.random_groups(1, responses=2, vocabulary=500, **size)]
    pipeline = Pipeline([groups], BatchShape(2, 256, 8, 4))
    ours, compiled = jobs.Ours(PRESETS["tiny"], RUNTIME), []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event == COMPILED))
    counts, done = {}, 0
    for epoch in (1, 2):
        before = sum(compiled)
        for n in range(done, pipeline.steps(epoch)):
            ours.grouped(pipeline.batch(n))()
        done, counts[f"epoch_{epoch}"] = pipeline.steps(epoch), sum(compiled) - before
    return counts


def main(_: list[str]) -> None:
    if FIRST_STEP.value:
        print(first_step())
        return
    report = {"suite": "pipeline", "machine": measure.machine(), "layers": layers()}
    report["recompilations"] = recompilations()
    report["dispatch_milliseconds"] = dispatch_milliseconds()
    report["input"] = input_speed(REPEATS.value)
    report["first_step_seconds"] = first_steps()
    write_json(Path(OUT.value), report)
    for name in ("recompilations", "dispatch_milliseconds", "input", "first_step_seconds"):
        print(f"{name}: {report[name]}")


if __name__ == "__main__":
    app.run(main)
