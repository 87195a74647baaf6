"""Suite "step": the training step against the torch peer and against our own unshared rows, on CPU in float32.

identical   the peer's rows, one response each with the same padding, so that only the implementation differs
real        pairs of a file: ours are packed with shared prompts, the peer's are padded to the batch's longest
group       one prompt with K responses: in one row of ours, in K rows of the peer
sharing     ours with a shared prompt against ours without, and its share of the ideal K(P + R)/(P + KR)
memory      peak resident size of a new process of each contender, on the identical rows
profile     the parts of the steps of "identical" and "group", each measured alone, for both contenders
"""

import functools
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

DATA = flags.DEFINE_string("data", "", "Pairs for the real rows; empty: real rows are left out.")
OUT = flags.DEFINE_string("out", "benchmarks/results/speed_step.json", "File of the figures.")
QUICK = flags.DEFINE_bool("quick", False, "Use two layers and short rows, to test the suite in a minute.")
LAYERS = flags.DEFINE_integer("layers", 30, "Layers of the model; SmolLM2 has 30.", 1)
SHARING_LAYERS = flags.DEFINE_integer("sharing_layers", 6, "Layers of the model that sharing is measured on.", 1)
SHARING_GROUPS = flags.DEFINE_integer(
    "sharing_groups", 4, "Prompts of a step of that model; with one, the optimiser's share is large.", 1
)
REPEATS = flags.DEFINE_integer("repeats", 3, "Turns.", 1)
ATTENTION = flags.DEFINE_enum("attention", "blockwise", ATTENTIONS, "Our attention.")
UNROLL = flags.DEFINE_enum("unroll", "scan", UNROLLS, "Our layers' loop.")
REMAT = flags.DEFINE_enum("remat", "dots", REMATS, "Our rematerialisation.")
PARTS = flags.DEFINE_list("parts", ["against_peer", "sharing", "memory", "profile"], "Parts of the suite to run.")
SIDE = flags.DEFINE_enum(
    "side", "both", ("both", "ours", "peer"), "A contender that runs steps alone and prints its peak memory."
)
MODEL = flags.DEFINE_string("model", "", "Model directory of --side=peer.")

PEAK_KIB = "peak_kib"


def runtime() -> Runtime:
    return Runtime(attention=ATTENTION.value, remat=REMAT.value, unroll=UNROLL.value)


def sizes() -> dict[str, int]:
    """Tokens of prompts and responses, and numbers of layers and pairs."""
    if QUICK.value:
        return {"prompt": 128, "length": 64, "layers": 2, "sharing_layers": 2, "pairs": 4}
    return {"prompt": 512, "length": 128, "layers": LAYERS.value, "sharing_layers": SHARING_LAYERS.value, "pairs": 8}


def groups(count: int, responses: int, prompt: int = 0):
    """Random groups of the suite's sizes; ``prompt`` replaces the size of the prompt."""
    s, vocabulary = sizes(), jobs.shape(1).vocab_size
    return rows.random_groups(
        count, prompt=prompt or s["prompt"], responses=responses, length=s["length"], vocabulary=vocabulary
    )


def identical_rows():
    """Two pairs of different lengths, so that there is padding as in real batches."""
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
        seconds = measure.in_turns({"ours": mine, "peer": functools.partial(peer.step, theirs)}, REPEATS.value)
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
    """Peak memory of this process in KiB, after two steps of one contender."""
    batch = identical_rows()
    if side == "ours":
        step = jobs.Ours(jobs.shape(sizes()["layers"]), runtime()).separate(batch)
    else:
        step = functools.partial(jobs.trainer(MODEL.value).step, batch)
    for _ in range(2):
        step()
    # getrusage's ru_maxrss starts with the parent's value, and the parent holds both contenders.
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
