"""``gpmjax diagnose`` as a script of a clone; the program is gpmjax/commands/diagnose.py."""

from gpmjax.commands import run

if __name__ == "__main__":
    run("diagnose")
