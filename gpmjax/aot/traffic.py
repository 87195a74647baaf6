"""The bytes that a compiled step moves per chip: between chips, by kind of collective, and to and from HBM."""

import re
from collections import defaultdict
from typing import NamedTuple

from gpmjax.aot.compute import kernel_bytes
from gpmjax.aot.hlo import Instruction, Module, shape_bytes

# The bytes that each of a group's n chips sends over all its links, as a share of the larger of a collective's input
# and output. No algorithm sends less: every chip must receive what it lacks, and for a sum also send what it has.
_SENT = {
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
}

# Instructions that move no bytes: they name values that exist already.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call",
         "partition-id", "replica-id", "after-all", "opt-barrier", "iota"}  # fmt: skip


class Collective(NamedTuple):
    """One exchange between devices in a compiled program."""

    kind: str
    times: float
    """How often a step starts it."""
    sent: float
    """The bytes that a chip sends by it in one step, over all those times."""


def collectives(module: Module, devices: int) -> list[Collective]:
    """Every collective of a step, once each.

    To overlap a collective with other work, the compiler may spread it over several fusions, some of them inside loops.
    All of its parts have one channel. The collective starts as often as the rarest part runs.
    """
    runs, found = module.runs(), {}
    for name, instructions in module.computations.items():
        if not runs[name]:
            continue
        for instruction in instructions:
            kind = instruction.opcode.removesuffix("-start")
            if kind not in _SENT:
                continue
            shape = instruction.shape
            if instruction.opcode == "collective-permute-start":
                shape = shape.lstrip("(").partition("}, ")[0]  # (operand, result, …)
            if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
                kind = "reduce-scatter"  # a TPU's reduce-scatter is written as an all-reduce of this name
            size = max([shape_bytes(shape), _operand_bytes(module, name, instruction)])
            channel = re.search(r"channel_id=(\d+)", instruction.attributes)
            members = group_size(instruction.attributes, devices)
            key = channel[1] if channel else f"{name}/{instruction.name}"
            one = Collective(kind, runs[name], runs[name] * size * _SENT[kind](members))
            found[key] = min(found.get(key, one), one, key=lambda collective: collective.times)
    return list(found.values())


def sent_by_kind(found: list[Collective]) -> dict[str, dict[str, float]]:
    """{kind: {"times", "bytes"}} of a step's collectives."""
    times: dict[str, float] = defaultdict(float)
    sent: dict[str, float] = defaultdict(float)
    for collective in found:
        times[collective.kind] += collective.times
        sent[collective.kind] += collective.sent
    return {kind: {"times": times[kind], "bytes": sent[kind]} for kind in sorted(times)}


def group_size(attributes: str, devices: int) -> int:
    """The number of chips in one group of a collective.

    >>> [group_size(a, 8) for a in ("replica_groups={{0,1},{2,3}}", "replica_groups=[2,4]<=[8]", "replica_groups={}")]
    [2, 4, 8]
    >>> group_size("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}", 8)
    4
    """
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
    if listed:
        return listed[1].count(",") + 1
    iota = re.search(r"replica_groups=\[\d+,(\d+)\]", attributes)
    if iota:
        return int(iota[1])
    named = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes)
    if named:
        sizes = dict(re.findall(r"('\w+')=(\d+)", named[1]))
        size = 1
        for axis in named[2].split(","):
            size *= int(sizes[axis.strip()])
        return size
    return devices


def hbm_bytes(module: Module) -> float:
    """The bytes of HBM that a step reads and writes: its instructions' operands and results that are not on the chip.

    Of an array that an instruction only slices, gathers from, or updates in place, only that part counts.
    """
    runs = module.runs()
    fused = {
        called
        for instructions in module.computations.values()
        for instruction in instructions
        if instruction.opcode == "fusion"
        for called in instruction.called()
    }
    total = 0.0
    for name, instructions in module.computations.items():
        if runs[name] and name not in fused:
            total += runs[name] * sum(_moved(module, name, instruction) for instruction in instructions)
    return total


def _moved(module: Module, computation: str, instruction: Instruction) -> int:
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith("-done"):
        return 0
    shapes = [operand.shape for operand in _known_operands(module, computation, instruction)]
    if opcode in ("copy-start", "collective-permute-start"):
        # The shape is (destination, source, …) or (source, destination, …): each of the two counts once.
        return shape_bytes(instruction.shape, space=0)
    if opcode == "slice-start":
        # The shape is ((whole), part, …): the part is read, if the whole is in HBM, and written.
        whole, _, rest = instruction.shape.partition("), ")
        part = rest.partition("}, ")[0] + "}"
        return (shape_bytes(part) if shape_bytes(whole, 0) else 0) + shape_bytes(part, 0)
    if (told := kernel_bytes(instruction)) is not None:
        return told
    if opcode == "fusion":
        return _fusion_bytes(module, instruction, shapes)
    if opcode in ("dynamic-slice", "gather", "slice"):
        return 2 * min(shape_bytes(instruction.shape, 0), max([shape_bytes(s, 0) for s in shapes], default=0))
    if opcode in ("dynamic-update-slice", "scatter"):
        return 2 * sum(shape_bytes(shape, 0) for shape in shapes[1:])
    return shape_bytes(instruction.shape, 0) + sum(shape_bytes(shape, 0) for shape in shapes)


def _fusion_bytes(module: Module, fusion: Instruction, shapes: list[str]) -> int:
    (body, *_) = fusion.called()
    inside = module.computations[body]
    names = module.by_name(body)
    parameters = {int(i.operands[0]): i.name for i in inside if i.opcode == "parameter"}
    total, in_place = 0, set()
    for instruction in inside:
        if instruction.opcode == "dynamic-update-slice":
            buffer = _source(names, instruction.operands[0])
            if buffer.opcode == "parameter":
                in_place.add(buffer.name)
                total += shape_bytes(names[instruction.operands[1]].shape)
    written = shape_bytes(fusion.shape, 0)
    for position, shape in enumerate(shapes):
        size, name = shape_bytes(shape, 0), parameters[position]
        if name in in_place:
            written -= size  # the result is this buffer, and only the update is written
        elif size:
            total += min(size, _read_of(names, inside, name, size))
    return total + max(written, 0)


def _read_of(names: dict[str, Instruction], inside: list[Instruction], name: str, size: int) -> int:
    """The bytes of an operand that a fusion reads: only the slices, where it is only sliced or gathered from."""
    users = [i for i in inside if name in i.operands]
    read = 0
    for user in users:
        if user.opcode == "bitcast":
            read += _read_of(names, inside, user.name, size)
        elif user.opcode in ("dynamic-slice", "slice", "gather") and user.operands[0] == name:
            read += shape_bytes(user.shape)
        else:
            return size
    return read


def _source(names: dict[str, Instruction], name: str) -> Instruction:
    while names[name].opcode in ("bitcast", "copy"):
        name = names[name].operands[0]
    return names[name]


def _known_operands(module: Module, computation: str, instruction: Instruction) -> list[Instruction]:
    names = module.by_name(computation)
    return [names[operand] for operand in instruction.operands if operand in names]


def _operand_bytes(module: Module, computation: str, instruction: Instruction) -> int:
    return sum(shape_bytes(operand.shape) for operand in _known_operands(module, computation, instruction))
