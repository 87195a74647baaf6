"""Parses command lines of ``gpmjax``, ``launch/`` and ``benchmarks/`` as the programs do, and runs none.

JSON in, JSON out.

In: a list of [words of the command, mode]. Out: a text for each, empty where the command would be accepted. The mode is
"whole", or "part" for a command that may leave out flags that it needs, or "flags", which asks for the names of the
program's flags. Each is parsed in a fork, since absl keeps one set of flags a process.
"""

import contextlib
import importlib
import io
import json
import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def load(words: list[str]) -> None:
    """Defines the flags of the program that a command runs."""
    from tests.launch.programs import command_of

    if words[0] == "gpmjax":
        importlib.import_module(f"gpmjax.commands.{words[1]}")
        return
    program = ROOT / words[1]
    sys.path[0] = str(program.parent)
    runpy.run_path(words[1], run_name="page")
    if program.parent.name == "launch":
        importlib.import_module(f"gpmjax.commands.{command_of(program)}")


def parse(words: list[str], mode: str) -> str:
    """What is wrong with ``python PROGRAM FLAG …`` or ``gpmjax COMMAND FLAG …``; empty: nothing."""
    from absl import flags

    sys.argv = words[1:]
    os.chdir(ROOT)
    load(words)
    if mode == "flags":
        return " ".join(flags.FLAGS)
    whole = mode == "whole"
    needed = ["must be specified", "must have a value other than None"]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            if "config" in flags.FLAGS:
                from gpmjax.config.overrides import parse_flags

                parse_flags(words[1:])
            else:
                flags.FLAGS(words[1:])
    except SystemExit as end:
        text = said.getvalue() or str(end.code)
        return "" if not whole and ("--config is needed" in text or any(part in text for part in needed)) else text
    except flags.Error as error:
        return "" if not whole and any(part in str(error) for part in needed) else str(error)
    return ""


def forked(words: list[str], mode: str) -> str:
    here, there = os.pipe()
    if child := os.fork():
        os.close(there)
        with open(here, encoding="utf-8") as answer:
            text = answer.read()
        os.waitpid(child, 0)
        return text
    try:
        text = parse(words, mode)
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"
    os.write(there, text[:4000].encode())
    os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    # What most programs import, once, before the first fork.
    for module in ("evals.held_out", "fit.fit", "improve.improve", "reports.plots.folder", "interop.reward_model"):
        importlib.import_module(f"gpmjax.{module}")
    print(json.dumps([forked(words, mode) for words, mode in json.load(sys.stdin)]))
