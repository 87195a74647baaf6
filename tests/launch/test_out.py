"""Every launch program checks --out before it reads a model, data or runs. The inputs named here do not exist."""

import fcntl
import json
from pathlib import Path

import pytest

from tests.launch.programs import command_of, run_program

LAUNCH = Path(__file__).parents[2] / "launch"

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
    messages = {
        case: run_program(LAUNCH / program, *arguments).stderr.rstrip("\n").rsplit("\n", 1)[-1]
        for case, (program, arguments) in cases.items()
    }
    for lock in held:
        lock.close()
    return folder, messages


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
    commands = LAUNCH.parent / "gpmjax" / "commands"
    with_out = set()
    for script in LAUNCH.glob("*.py"):
        if '("out"' in (commands / f"{command_of(script)}.py").read_text(encoding="utf-8"):
            with_out.add(script.name)
    assert with_out == FILES.keys() | DIRECTORIES.keys()
