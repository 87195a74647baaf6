"""launch/train.py with an accident:

    worker.py none|SIGTERM-at-batch=N|SIGKILL-in-save=N FLAGS…

SIGTERM arrives when batch N is asked for; SIGKILL when checkpoint N is half written: its parameters are, its moments
are not, and its directory does not have its name yet.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

from gpmjax.data.pipeline import Pipeline

ROOT = Path(__file__).parents[2]


def sigterm_at_batch(number: int) -> None:
    rows = Pipeline.rows

    def rows_and_signal(pipeline, step):
        if step == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return rows(pipeline, step)

    Pipeline.rows = rows_and_signal


def sigkill_in_save(number: int) -> None:
    def watch(event: str, arguments: tuple) -> None:
        if event == "os.rename" and f"/{number}." in str(arguments[1]) and str(arguments[1]).endswith("/optimizer"):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


if __name__ == "__main__":
    accident, _, number = sys.argv[1].partition("=")
    if accident != "none":
        {"SIGTERM-at-batch": sigterm_at_batch, "SIGKILL-in-save": sigkill_in_save}[accident](int(number))
    program = str(ROOT / "launch" / "train.py")
    sys.argv = [program, *sys.argv[2:]]
    runpy.run_path(program, run_name="__main__")
