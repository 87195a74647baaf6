"""Suite "step": the training step against the torch peer and against our own unshared rows, CPU, float32.

identical   the peer's rows, one response each, padded alike: nothing but the implementation differs
real        pairs of a file: ours packed and with shared prompts, the peer's padded to the batch's longest
group       one prompt with K responses: ours in one row, the peer's in K
sharing     ours with a shared prompt against ours without, and the share of the ideal K(P + R)/(P + KR)
memory      peak resident size of a fresh process of each side, on the identical rows
profile     what the steps of "identical" and "group" are made of, each part alone, on both sides
"""

import json
import re
import tempfile
from pathlib import Path

from absl import app, flags

from benchmarks.speed import jobs, measure, parts, rows
from benchmarks.torch_peer import pair_rows
from gpmjax import hub
from gpmjax.data.chat import ChatFormat
from gpmjax.data.pipeline import prepare
from gpmjax.files import write_json
from gpmjax.models.config import ATTENTIONS, REMATS, UNROLLS, Runtime

DATA = flags.DEFINE_string("data", "", "Pairs for the real rows; without it they are left out.")
OUT = flags.DEFINE_string("out", "benchmarks/results/speed_step.json", "Where the figures go.")
QUICK = flags.DEFINE_bool("quick", False, "Two layers and short rows: a minute, to see that it runs.")
LAYERS = flags.DEFINE_integer("layers", 30, "Layers of the model; SmolLM2 has 30.", 1)
SHARING_LAYERS = flags.DEFINE_integer("sharing_layers", 6, "Layers of the model that sharing is measured on.", 1)
SHARING_GROUPS = flags.DEFINE_integer(
    "sharing_groups", 4, "Prompts of a step there; with one, the optimiser's share is large.", 1
)
REPEATS = flags.DEFINE_integer("repeats", 3, "Turns.", 1)
ATTENTION = flags.DEFINE_enum("attention", "blockwise", ATTENTIONS, "Ours.")
UNROLL = flags.DEFINE_enum("unroll", "scan", UNROLLS, "Ours.")
REMAT = flags.DEFINE_enum("remat", "dots", REMATS, "Ours.")
PARTS = flags.DEFINE_list("parts", ["against_peer", "sharing", "memory", "profile"], "Which of the parts above.")
SIDE = flags.DEFINE_enum("side", "both", ("both", "ours", "peer"), "One side alone: a step, then its peak memory.")
MODEL = flags.DEFINE_string("model", "", "For --side=peer: the model directory that it opens.")

PEAK_KIB = "peak_kib"


def runtime() -> Runtime:
    return Runtime(attention=ATTENTION.value, remat=REMAT.value, unroll=UNROLL.value)


def sizes() -> dict[str, int]:
    """Prompt, response, and layers."""
    if QUICK.value:
        return {"prompt": 128, "length": 64, "layers": 2, "sharing_layers": 2, "pairs": 4}
    return {"prompt": 512, "length": 128, "layers": LAYERS.value, "sharing_layers": SHARING_LAYERS.value, "pairs": 8}


def groups(count: int, responses: int, prompt: int = 0):
    """Random ones; of the suite's sizes unless a prompt's is given."""
    s, vocabulary = sizes(), jobs.shape(1).vocab_size
    return rows.random_groups(
        count, prompt=prompt or s["prompt"], responses=responses, length=s["length"], vocabulary=vocabulary
    )


def identical_rows():
    """Two pairs of unlike lengths, so that there is padding as in real batches."""
    return pair_rows([*groups(1, 2), *groups(1, 2, prompt=sizes()["prompt"] // 2)])


def real_groups(count: int):
    chat = ChatFormat(hub.open_source("smollm2").tokenizer())
    (found,) = prepare([DATA.value], chat, max_length=1024).sources
    return found[:: max(len(found) // count, 1)][:count]


def against_peer() -> dict:
    ours = jobs.Ours(jobs.shape(sizes()["layers"]), runtime())
    peer = jobs.peer(ours)
    batches = {"identical": (identical_rows(), None), "group": (pair_rows(groups(1, 8)), groups(1, 8))}
    if DATA.value:
        found = real_groups(sizes()["pairs"])
        batches["real"] = pair_rows(found), found
    figures = {}
    for name, (theirs, shared) in batches.items():
        slots = max(1024, max((group.size[0] for group in shared or []), default=0))
        batch = None if shared is None else jobs.packed(shared, slots)
        mine = ours.separate(theirs) if batch is None else ours.grouped(batch)
        seconds = measure.in_turns({"ours": mine, "peer": lambda: peer.step(theirs)}, REPEATS.value)
        figures[name] = {
            "seconds": {side: measure.spread(times) for side, times in seconds.items()},
            "useful_tokens": theirs.real,
            "slots": {
                "ours": int((theirs.tokens if batch is None else batch.tokens).size),
                "peer": int(theirs.tokens.size),
            },
            "useful_tokens_per_second": {
                side: measure.spread([theirs.real / t for t in ts]) for side, ts in seconds.items()
            },
            "speedup": measure.speedup(seconds["ours"], seconds["peer"]),
        }
    return figures


def sharing() -> dict:
    ours, s = jobs.Ours(jobs.shape(sizes()["sharing_layers"]), runtime()), sizes()
    figures = {
        "layers": s["sharing_layers"],
        "groups": SHARING_GROUPS.value,
        "prompt": s["prompt"],
        "response": s["length"],
    }
    for count in (2, 4, 8):
        several = groups(SHARING_GROUPS.value, count)
        shared, separate = jobs.packed(several, several[0].size[0]), pair_rows(several)
        seconds = measure.in_turns({"shared": ours.grouped(shared), "separate": ours.separate(separate)}, REPEATS.value)
        gain = measure.speedup(seconds["shared"], seconds["separate"])
        ideal = count * (s["prompt"] + s["length"]) / (s["prompt"] + count * s["length"])
        figures[f"K={count}"] = {
            "speedup": gain,
            "ideal": round(ideal, 3),
            "share_of_ideal": {name: round(value / ideal, 3) for name, value in gain.items()},
        }
    return figures


def peak_memory(side: str) -> int:
    """KiB: two steps of one side, then the most that its process ever held."""
    batch = identical_rows()
    if side == "ours":
        step = jobs.Ours(jobs.shape(sizes()["layers"]), runtime()).separate(batch)
    else:
        trainer = jobs.trainer(MODEL.value)
        step = lambda: trainer.step(batch)
    for _ in range(2):
        step()
    # Not getrusage's ru_maxrss: a process starts with its parent's, and the parent holds both sides.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def memory() -> dict:
    flag = [
        f"--layers={LAYERS.value}",
        f"--attention={ATTENTION.value}",
        f"--unroll={UNROLL.value}",
        f"--remat={REMAT.value}",
    ]
    flag += ["--quick"] if QUICK.value else []
    peaks = {}
    with tempfile.TemporaryDirectory() as directory:
        model = jobs.export(jobs.Ours(jobs.shape(sizes()["layers"]), runtime()), Path(directory) / "model")
        for side in ("ours", "peer"):
            printed = measure.fresh_process("benchmarks.speed.step", f"--side={side}", f"--model={model}", *flag)
            peaks[side] = json.loads(printed)[PEAK_KIB]
    return {f"{side}_mib": round(peak / 1024) for side, peak in peaks.items()} | {
        "ours_over_peer": round(peaks["ours"] / peaks["peer"], 3)
    }


def profiles() -> dict:
    config = jobs.shape(sizes()["layers"])
    ours = jobs.Ours(config, runtime())
    separate, group = identical_rows(), groups(1, 8)
    cases = {
        "identical": (rows.one_response_rows(separate).layout, separate.tokens.shape),
        "group": (jobs.packed(group, group[0].size[0]).layout, pair_rows(group).tokens.shape),
    }
    settings = dict(attention=ATTENTION.value, repeats=REPEATS.value)
    return {name: parts.of_a_step(config, ours.params, *case, **settings) for name, case in cases.items()}


def main(_: list[str]) -> None:
    if SIDE.value != "both":
        print(json.dumps({PEAK_KIB: peak_memory(SIDE.value)}))
        return
    report = {
        "suite": "step",
        "machine": measure.machine(),
        "runtime": [ATTENTION.value, REMAT.value, UNROLL.value],
    } | sizes()
    for part in PARTS.value:
        report[part] = {"against_peer": against_peer, "sharing": sharing, "memory": memory, "profile": profiles}[part]()
    write_json(Path(OUT.value), report)
    for name, figures in report.get("against_peer", {}).items():
        print(f"{name}: {figures['speedup']} times the peer's speed")
    for name, figures in report.get("sharing", {}).items():
        if name.startswith("K="):
            print(f"sharing {name}: {figures['speedup']}, ideal {figures['ideal']}, share {figures['share_of_ideal']}")
    print(f"peak memory: {report.get('memory', 'not measured')}")
    for name, figures in report.get("profile", {}).items():
        print(f"{name}, by part: {figures}")


if __name__ == "__main__":
    app.run(main)
