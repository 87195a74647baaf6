"""Truncates one sequence, a prompt and a response, to a window of ``max_length`` tokens.

* A sequence that fits is not cut. A longer one loses exactly its excess.
* The prompt is cut first, from the left. It keeps BOS and the generation header, and at least half of the window (or
  its whole length).
* The response is cut last, from the right, and keeps its EOS. A response of at most half of the window is never cut.

So what a model reads of a response depends on its own prompt and tokens, never on the other responses of a group.
"""

from collections.abc import Sequence


def prompt_room(response: int, max_length: int) -> int:
    """The most tokens that a prompt may have before a response of ``response`` tokens.

    >>> [prompt_room(tokens, max_length=10) for tokens in (1, 4, 5, 6, 99)]
    [9, 6, 5, 5, 5]
    """
    return max(max_length - response, max_length - max_length // 2)


def cut_prompt(
    ids: Sequence[int], prompt_end: int, bos: int | None, limit: int, gate: int | None = None
) -> tuple[list[int], int]:
    """(at most ``limit`` ids, index of the gate's token in them).

    The leftmost ids after BOS are cut. If the gate is read before ``prompt_end``, at the end of a first message, that
    message is kept and the leftmost ids after it are cut. If BOS also opens every turn (ChatML), a cut directly before
    a turn keeps one BOS, not two.

    >>> cut_prompt([1, 11, 12, 13, 14], prompt_end=3, bos=1, limit=4)
    ([1, 12, 13, 14], 2)
    >>> cut_prompt([1, 1, 11, 1, 12, 13], prompt_end=4, bos=1, limit=5)
    ([1, 1, 12, 13], 2)
    >>> cut_prompt([1, 11, 12, 13, 14, 15], prompt_end=4, bos=1, limit=4, gate=1)
    ([1, 11, 14, 15], 1)
    """
    if gate is not None and gate < prompt_end:
        return _cut_after_gate(list(ids), prompt_end, limit, gate), gate
    ids = list(ids)
    excess = len(ids) - limit
    if excess <= 0:
        return ids, prompt_end
    head = next(place for place, token in enumerate([*ids, None]) if token != bos)
    if head + excess > prompt_end:
        least = head + len(ids) - prompt_end
        raise ValueError(
            f"{limit} tokens are too few for the prompt, its template alone takes {least}; raise max_length"
        )
    left = ids[head + excess :]
    if left[0] == bos:
        head -= 1
    return ids[:head] + left, prompt_end - (len(ids) - head - len(left))


def _cut_after_gate(ids: list[int], prompt_end: int, limit: int, gate: int) -> list[int]:
    excess = max(0, len(ids) - limit)
    if gate + excess >= prompt_end:
        least = len(ids) - (prompt_end - gate - 1)
        raise ValueError(
            f"{limit} tokens are too few for the prompt, its template and its first message, after which the gate is "
            f"read, take {least}; raise max_length"
        )
    return ids[: gate + 1] + ids[gate + 1 + excess :]


def cut_response(ids: Sequence[int], limit: int) -> list[int]:
    """At most ``limit`` ≥ 1 ids; the last one is still EOS."""
    return list(ids) if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]


def shares(lengths: Sequence[int], room: int) -> list[int]:
    """How many tokens each of one or two texts keeps of ``room``; the longer one gets what the shorter leaves.

    >>> shares((3, 9), 10), shares((6, 9), 10), shares((2, 3), 10), shares((12,), 10)
    ([3, 7], [5, 5], [2, 3], [10])
    """
    if len(lengths) == 1:
        return [min(lengths[0], room)]
    first, second = lengths
    return [min(first, max(room // 2, room - second)), min(second, max(room // 2, room - first))]
