"""Runs programs of launch/ in forks of one process that has imported the slow modules, as fresh processes would run.

`run_program` gives what ``subprocess.run(..., capture_output=True, text=True)`` gives. A program needs a process of its
own if it is to start with other environment variables than the tests', or is sent signals.
"""

import atexit
import contextlib
import functools
import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
# No module with absl flags of a program's own may stand here.
IMPORTED = (
    "absl.app", "matplotlib.figure", "ml_collections.config_flags", "pyarrow.parquet", "rich.progress", "scipy.stats",
    "gpmjax.commands", "gpmjax.evals.benchmarks", "gpmjax.evals.diagnostics.run", "gpmjax.evals.evaluate",
    "gpmjax.evals.policies.compare", "gpmjax.fit.fit", "gpmjax.improve.improve", "gpmjax.interop.server",
    "gpmjax.reports.page", "gpmjax.reports.paper_tables", "gpmjax.sampling.rollout",
)  # fmt: skip


def run_program(
    program: str | Path, *arguments: str | Path, timeout: float = 300, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Runs ``python PROGRAM ARGUMENTS``; raises TimeoutExpired as subprocess.run does."""
    command = [str(program), *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        server = _server()
        assert server.stdin is not None and server.stdout is not None
        asked = {"command": command, "cwd": str(cwd), "out": folder, "timeout": timeout}
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        out, err = (Path(folder, name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
    if code is None:
        raise subprocess.TimeoutExpired(command, timeout, out, err)
    return subprocess.CompletedProcess(command, code, out, err)


def command_of(script: Path) -> str:
    """The command of ``gpmjax`` that a script of launch/ runs."""
    return script.read_text(encoding="utf-8").split('run("')[1].split('"')[0]


@functools.cache
def _server() -> "subprocess.Popen[str]":
    """The process that forks, one for each process that tests."""
    command = [sys.executable, "-W", "ignore:os.fork", str(Path(__file__))]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    atexit.register(server.kill)
    return server


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.path[0] = str(ROOT)
    for module in IMPORTED:
        __import__(module)
    for line in sys.stdin:
        print(json.dumps(_forked(**json.loads(line))), file=answers, flush=True)


def _forked(command: list[str], cwd: str, out: str, timeout: float) -> int | None:
    """The exit status of a program; None if it did not end in time."""
    child = os.fork()
    if not child:
        os.setsid()
        os.chdir(cwd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(f"{out}/{name}", os.O_WRONLY | os.O_CREAT), number)
        os._exit(_run(command))
    with contextlib.suppress(subprocess.TimeoutExpired):
        return _wait(child, timeout)
    os.killpg(child, 9)
    os.waitpid(child, 0)
    return None


def _wait(child: int, timeout: float) -> int:
    descriptor = os.pidfd_open(child)
    try:
        if not select.select([descriptor], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(child), timeout)
    finally:
        os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run(command: list[str]) -> int:
    """Runs the program as ``__main__``, and says what a Python of its own would exit with."""
    sys.argv, sys.path[0], code = command, str(Path(command[0]).parent), 0
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    # The program's own clean-up, as at the end of a process; threads of the server were not forked.
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


if __name__ == "__main__":
    _serve()
