"""Suite "pipeline": the host's work beside the step, which is input, dispatch, the first step and recompilations.

input          tokens per second that Pipeline.batch assembles, divided by those that a step of the model consumes
dispatch       milliseconds until a call of a step returns to Python while the device is still busy; measured on a small
               model with as many arrays as the large one, since the time depends on their number
first_step     seconds from the start of a process to the end of its first step, without and with the compilation cache
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

DATA = flags.DEFINE_string("data", "", "Pairs for the input pipeline; random pairs when empty.")
OUT = flags.DEFINE_string("out", "benchmarks/results/speed_pipeline.json", "File of the figures.")
QUICK = flags.DEFINE_bool("quick", False, "Use a model of two layers.")
LAYERS = flags.DEFINE_integer("layers", 30, "Layers of the model; SmolLM2 has 30.", 1)
REPEATS = flags.DEFINE_integer("repeats", 3, "Turns of the input pipeline and of steps.", 1)
FIRST_STEP = flags.DEFINE_bool(
    "first_step", False, "Run one step, print the seconds since the process started, and exit."
)
CACHE = flags.DEFINE_string("compilation_cache", "", "Directory of the compilation cache, for --first_step.")

RUNTIME = Runtime(attention="blockwise", remat="dots")
COMPILED = "/jax/core/compile/backend_compile_duration"


def layers() -> int:
    return 2 if QUICK.value else LAYERS.value


def small_batch():
    group = rows.random_groups(1, prompt=128, responses=2, length=64, vocabulary=PRESETS["tiny"].vocab_size)
    return jobs.packed(group, 256)


def first_step() -> float:
    """Seconds from the start of the process to the end of a step, including Python's start and every import."""
    if CACHE.value:
        keep_compiled(CACHE.value)
    jobs.Ours(jobs.shape(layers()), RUNTIME).grouped(small_batch())()
    started = time.time() - float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
    ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    return time.time() - (started + ticks / 100)  # Linux counts a hundred clock ticks per second since boot


def first_steps() -> dict:
    """`first_step` in new processes: without a cache, filling a cache, and reading it."""
    flag = ["--first_step", f"--layers={LAYERS.value}", *(["--quick"] if QUICK.value else [])]
    with tempfile.TemporaryDirectory() as directory:
        cache = f"--compilation_cache={directory}"
        runs = {"no_cache": (), "fills_cache": (cache,), "reads_cache": (cache,)}
        printed = {
            name: measure.fresh_process("benchmarks.speed.pipeline", *flag, *more) for name, more in runs.items()
        }
    return {name: round(float(seconds), 1) for name, seconds in printed.items()}


def read_groups():
    if not DATA.value:
        return rows.random_groups(800, prompt=150, responses=2, length=80, vocabulary=49_152)
    (groups,) = prepare([DATA.value], ChatFormat(hub.open_source("smollm2").tokenizer()), max_length=1024).sources
    return groups


def input_speed(repeats: int) -> dict:
    """The pipeline's tokens per second, and those of a step on 4 rows of 1,024 slots."""
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
    """Programs compiled in each of two epochs of packed rows. The number of groups differs from batch to batch."""
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
