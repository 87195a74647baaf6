"""``gpmjax evaluate`` as a script of a clone; the program is gpmjax/commands/evaluate.py."""

from gpmjax.commands import run

if __name__ == "__main__":
    run("evaluate")
