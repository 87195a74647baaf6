"""Shortens other libraries' error messages to the one line that a user is shown."""


def one_line(error: BaseException, limit: int = 160) -> str:
    """The first non-empty line of an error's message, cut to ``limit`` characters.

    >>> one_line(ValueError("bad header\\n  at byte 8\\n"))
    'bad header'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:limit] if lines else type(error).__name__
