"""Every launch program checks --out before it reads a model, data or runs. The inputs named here do not exist."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"

# Each program runs in a fork of one process that has already imported the slow modules.
FORKS = """
import json, os, runpy, sys
import jax, absl.app, matplotlib.figure, ml_collections, pyarrow.parquet, rich.progress, rich.table, scipy.stats
import gpmjax.evals.benchmarks, gpmjax.evals.diagnostics.run, gpmjax.evals.evaluate
import gpmjax.judges.open, gpmjax.sampling.rollout

def message(launch, program, arguments):
    reads, writes = os.pipe()
    if not os.fork():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.path.insert(0, launch)
        sys.argv = [program, *arguments]
        message = "no error"
        try:
            runpy.run_path(os.path.join(launch, program), run_name="__main__")
        except BaseException as error:
            message = str(error.code if isinstance(error, SystemExit) else repr(error))
        os.write(writes, message.encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, encoding="utf-8") as pipe:
        message = pipe.read()
    os.wait()
    return message

launch, cases = json.load(sys.stdin)
print(json.dumps([message(launch, *case) for case in cases]))
"""

FILES = {
    "answer.py": ("--model=/nowhere", "--instructions=/nowhere.json"),
    "benchmark.py": ("--suite=step", "--data=/nowhere.jsonl", "--threads=1"),
    "compare.py": ("--outputs=/nowhere.json", "--reference=/nowhere.json", "--judge=/nowhere"),
    "compile.py": ("--config=configs/gpm_smollm2.py", "--topology=v0:none"),
    "diagnose.py": ("--model=/nowhere", "--data=/nowhere.jsonl"),
    "evaluate.py": ("--model=/nowhere", "--data=/nowhere.jsonl", "--benchmark=rewardbench"),
    "make_data.py": ("--kind=aspect_cycles", "--input=/nowhere.jsonl"),
    "report.py": ("/nowhere",),
}
DIRECTORIES = {"plot.py": ("--folder=/nowhere",), "tables.py": ("/nowhere",)}


def suffix(program):
    return {"make_data.py": ".jsonl", "report.py": ".html"}.get(program, ".json")


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """Each program's error when --out is a directory, is below a file, or is in use by this process."""
    folder = tmp_path_factory.mktemp("out")
    (folder / "file").touch()
    cases, held = {}, []
    for program, flags in FILES.items():
        name = program + suffix(program)
        (folder / name).mkdir()
        lock = (folder / f".mine_{name}.lock").open("w", encoding="utf-8")
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(json.dumps({"host": "here", "pid": 7, "since": "now"}))
        lock.flush()
        held.append(lock)
        for case, out in (("directory", name), ("below a file", f"file/{name}"), ("in use", f"mine_{name}")):
            cases[program, case] = [program, [*flags, f"--out={folder / out}"]]
    for program, flags in DIRECTORIES.items():
        cases[program, "file"] = [program, [*flags, f"--out={folder / 'file'}"]]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS], input=json.dumps([str(LAUNCH), list(cases.values())]),
        stdout=subprocess.PIPE, encoding="utf-8", timeout=300, check=True, cwd=LAUNCH.parent,
    )  # fmt: skip
    for lock in held:
        lock.close()
    return folder, dict(zip(cases, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("program", FILES)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(errors, program):
    folder, messages = errors
    name = program + suffix(program)
    assert messages[program, "directory"] == f"error: --out={folder / name}: is a directory; name a file"
    below = f"error: --out={folder}/file/{name}: {folder}/file is a file, no directory"
    assert messages[program, "below a file"] == below
    owner = "in use by process 7 on here since now; wait until it ends, or name another place"
    assert messages[program, "in use"] == f"error: --out={folder}/mine_{name}: {owner}"


@pytest.mark.parametrize("program", DIRECTORIES)
def test_a_directory_that_is_a_file_is_refused_before_the_work(errors, program):
    folder, messages = errors
    assert messages[program, "file"] == f"error: --out={folder}/file: {folder}/file is a file, no directory"


def test_every_program_with_the_flag_out_is_tested():
    with_out = {path.name for path in LAUNCH.glob("*.py") if '("out"' in path.read_text(encoding="utf-8")}
    assert with_out == FILES.keys() | DIRECTORIES.keys()
