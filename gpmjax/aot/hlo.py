"""A parser of optimised HLO text, for counting: the instructions of each computation, and how often it runs.

XLA's own cost analysis counts a loop's body once. Here a body counts once per turn of its loop. The number of turns is
the ``known_trip_count`` that XLA writes on a loop, or else follows from the constants that its counter starts from and
is compared with.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
# The computation that one of these applies to pairs of elements is part of it, and is not counted as a call.
_REDUCERS = (
    "all-reduce",
    "reduce-scatter",
    "all-reduce-start",
    "reduce",
    "reduce-window",
    "scatter",
    "sort",
    "select-and-scatter",
)

BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "token": 0, "opaque": 0}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """An instruction ``name = shape opcode(operands), attributes``; ``root`` marks a computation's result."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    root: bool

    def called(self) -> list[str]:
        """The names of the computations that the instruction runs."""
        if self.opcode in _REDUCERS:
            return []
        branches = _BRANCHES.search(self.attributes)
        listed = [name.strip(" %") for name in branches[1].split(",")] if branches else []
        return _CALLED.findall(self.attributes) + listed


def shape_bytes(shape: str, space: int | None = None) -> int:
    """The bytes of a shape or a tuple of shapes, without the padding of tiles.

    Args:
      space: count only buffers in this memory space: 0 is a TPU's HBM, 1 its on-chip memory; None counts all.

    >>> shape_bytes("(bf16[2,3]{1,0:T(8,128)(2,1)}, f32[4]{0:T(128)S(1)})")
    28
    >>> shape_bytes("f32[4]{0:T(128)S(1)}", space=0)
    0
    """
    total = 0
    for kind, sizes, layout in _SHAPE.findall(shape):
        found = re.search(r"S\((\d+)\)", layout)
        if space is None or int(found[1] if found else 0) == space:
            bits = (
                BITS.get(kind) or int(re.sub(r"\D*(\d+).*", r"\1", kind) or 0) if kind not in ("token", "opaque") else 0
            )
            total += bits * math.prod(int(size) for size in sizes.split(",") if size) // 8
    return total


def dimensions(shape: str) -> list[int]:
    """The sizes of a shape, or of the first shape of a tuple.

    >>> dimensions("bf16[2,3]{1,0:T(8,128)(2,1)}"), dimensions("f32[]")
    ([2, 3], [])
    """
    return [int(size) for size in _found(_SHAPE.search(shape))[2].split(",") if size]


class Module:
    """The computations of a compiled program."""

    def __init__(self, text: str):
        self.computations: dict[str, list[Instruction]] = {}
        self.entry = ""
        name = None
        # In long tuples, the index of every fifth part is a comment.
        for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
            begins = _COMPUTATION.match(line)
            if begins:
                name = begins[2]
                self.computations[name] = []
                self.entry = name if begins[1] else self.entry
            elif line.startswith("}"):
                name = None
            elif name is not None and (parsed := _INSTRUCTION.match(line)):
                root, label, shape, opcode, rest = parsed.groups()
                operands, attributes = _split_operands(rest)
                self.computations[name].append(Instruction(label, shape, opcode, operands, attributes, bool(root)))
        if not self.entry:
            raise ValueError("HLO text without an ENTRY computation")

    def by_name(self, computation: str) -> dict[str, Instruction]:
        return {instruction.name: instruction for instruction in self.computations[computation]}

    def runs(self) -> dict[str, float]:
        """How often each computation runs in one run of the program. Every branch of a conditional counts as taken."""
        times = dict.fromkeys(self.computations, 0.0)
        self._add_runs(self.entry, 1.0, times)
        return times

    def _add_runs(self, computation: str, times: float, total: dict[str, float]) -> None:
        total[computation] += times
        for instruction in self.computations[computation]:
            turns = self.trip_count(computation, instruction) if instruction.opcode == "while" else 1
            for called in instruction.called():
                self._add_runs(called, times * turns, total)

    def trip_count(self, computation: str, loop: Instruction) -> int:
        """The turns of a while loop; raises ValueError where the text does not tell them."""
        known = re.search(r'known_trip_count"?:\{"?n"?:"?(\d+)', loop.attributes)
        if known:
            return int(known[1])
        condition, body = (
            _found(re.search(rf"{part}=%?([\w.\-]+)", loop.attributes))[1] for part in ("condition", "body")
        )
        compare = next((i for i in self.computations[condition] if i.root and i.opcode == "compare"), None)
        if compare is not None and "direction=LT" in compare.attributes:
            counter, limit = (self.by_name(condition).get(name) for name in compare.operands)
            index = _index(counter)
            limit = self._constant(condition, limit)
            start = self._initial(computation, loop, index) if index is not None else None
            step = self._increment(body, index) if index is not None else None
            if limit is not None and start is not None and step is not None:
                return max(0, -(-(limit - start) // step))
        raise ValueError(
            f"while loop {loop.name}: its condition {condition} does not compare a counter with a constant"
        )

    def _initial(self, computation: str, loop: Instruction, index: int) -> int | None:
        names = self.by_name(computation)
        carried = names[loop.operands[0]]
        return self._constant(computation, names.get(carried.operands[index])) if carried.opcode == "tuple" else None

    def _increment(self, body: str, index: int) -> int | None:
        names = self.by_name(body)
        root = next(i for i in names.values() if i.root)
        value = names[root.operands[index]] if root.opcode == "tuple" else None
        added = 0
        # An unrolled body increments its counter in several additions: add them up, back to the body's input.
        while value is not None and value.opcode in ("add", "copy", "bitcast"):
            if value.opcode != "add":
                value = names.get(value.operands[0])
                continue
            sides = [names.get(name) for name in value.operands]
            constants = [self._constant(body, side) for side in sides]
            if constants[1] is None:
                sides, constants = sides[::-1], constants[::-1]
            if constants[1] is None:
                return None
            added, value = added + constants[1], sides[0]
        return added if added > 0 and _index(value) == index else None

    def _constant(self, computation: str, instruction: Instruction | None) -> int | None:
        while instruction is not None and instruction.opcode in ("copy", "bitcast", "convert"):
            instruction = self.by_name(computation).get(instruction.operands[0])
        if instruction is None or instruction.opcode != "constant":
            return None
        number = re.fullmatch(r"-?\d+", instruction.operands[0]) if instruction.operands else None
        return int(number[0]) if number else None


def _found(match: re.Match[str] | None) -> re.Match[str]:
    """The match of a pattern that HLO text always has; raises ValueError where it has none."""
    if match is None:
        raise ValueError("HLO text of an unknown form")
    return match


def _index(instruction: Instruction | None) -> int | None:
    """The index of a get-tuple-element; None for any other instruction."""
    if instruction is None or instruction.opcode != "get-tuple-element":
        return None
    return int(_found(re.search(r"index=(\d+)", instruction.attributes))[1])


def _split_operands(rest: str) -> tuple[tuple[str, ...], str]:
    """Operands and attributes: "%a, f32[2]{0} %b), channel_id=1" → (("a", "b"), ", channel_id=1"), without shapes."""
    return tuple(_operands(rest[: (end := _closing(rest))])), rest[end + 1 :]


def _closing(text: str) -> int:
    """The position of the bracket that closes one opened before ``text``."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return position
    return len(text)


def _operands(text: str) -> Iterator[str]:
    named = re.findall(r"%([\w.\-]+)", text)
    yield from named or [part.strip() for part in text.split(",") if part.strip()]
