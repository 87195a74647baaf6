"""``gpmjax report`` as a script of a clone; the program is gpmjax/commands/report.py."""

from gpmjax.commands import run

if __name__ == "__main__":
    run("report")
