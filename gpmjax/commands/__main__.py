"""``python -m gpmjax.commands``: the ``gpmjax`` command where its script is not on the path."""

from gpmjax.commands import entry_point

if __name__ == "__main__":
    entry_point()
