"""FLOPs of a compiled step on one chip: of every matrix product and kernel, times the turns of the loops around them.

A TPU's compiler writes every matrix product as a convolution. A kernel states its own cost.
"""

import math
import re

from gpmjax.aot.hlo import Instruction, Module, dimensions

_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")


def matrix_flops(module: Module) -> float:
    """FLOPs of one step: two for each pair of numbers multiplied and added. Elementwise arithmetic is not counted."""
    runs = module.runs()
    return sum(
        runs[name] * _flops(module, name, instruction)
        for name, instructions in module.computations.items()
        if runs[name]
        for instruction in instructions
    )


def kernel_bytes(instruction: Instruction) -> int | None:
    """The bytes that a Pallas kernel states it reads and writes; None for any other instruction."""
    return _cost(instruction, "bytes_accessed")


def _cost(instruction: Instruction, what: str) -> int | None:
    found = re.search(rf'"cost_estimate":\{{[^}}]*"{what}":"(\d+)"', instruction.attributes)
    return int(found[1]) if instruction.opcode == "custom-call" and found else None


def _flops(module: Module, computation: str, instruction: Instruction) -> float:
    if instruction.opcode == "custom-call":
        return _cost(instruction, "flops") or 0
    if instruction.opcode not in ("dot", "convolution"):
        return 0
    names = module.by_name(computation)
    left, right = (dimensions(names[operand].shape) for operand in instruction.operands[:2])
    if instruction.opcode == "dot":
        inner = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
        contracted = [left[int(axis)] for axis in inner[1].split(",") if axis] if inner else []
        return 2.0 * math.prod(dimensions(instruction.shape)) * math.prod(contracted)
    return _convolution_flops(left, right, dimensions(instruction.shape), instruction.attributes)


def _convolution_flops(left: list[int], right: list[int], result: list[int], attributes: str) -> float:
    """FLOPs of the pairs (output, kernel element) that meet an input element, not padding or a hole."""
    labels = _LABELS.search(attributes)
    assert labels is not None, attributes
    inputs, kernel, outputs = labels.groups()
    window = re.search(r"window=\{([^}]*)\}", attributes)
    fields = dict(part.split("=") for part in window[1].split()) if window else {}
    spatial = sorted(label for label in outputs if label.isdigit())
    total = 2.0 * result[outputs.index("b")] * result[outputs.index("f")] * right[kernel.index("i")]
    defaults = {"stride": "1", "pad": "0_0", "lhs_dilate": "1", "rhs_dilate": "1"}
    per_axis = [
        fields[name].split("x") if name in fields else [default] * len(spatial) for name, default in defaults.items()
    ]
    axes = zip(spatial, *per_axis, strict=True)
    for axis, stride, pad, dilate, apart in axes:
        size, taps, places = left[inputs.index(axis)], right[kernel.index(axis)], result[outputs.index(axis)]
        total *= _meetings(size, taps, places, int(stride), int(pad.split("_")[0]), int(dilate), int(apart))
    return total


def _meetings(size: int, taps: int, places: int, stride: int, low: int, dilate: int, apart: int) -> int:
    """How many pairs (output place, kernel tap) of one axis meet one of the input's ``size`` elements."""
    count = 0
    for tap in range(taps):
        for place in range(places):
            at = place * stride + tap * apart - low
            count += at % dilate == 0 and 0 <= at // dilate < size
    return count
