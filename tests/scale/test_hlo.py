"""What XLA makes of the real training step on eight devices: weights travel to rows, layer by layer, and nothing else
does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("compiled.py")
LAYERS, WIDTH, VOCABULARY, ROWS, SLOTS = 3, 64, 512, 16, 24
CASES = ("fsdp", "all", "lora", "frozen")


@pytest.fixture(scope="module")
def compiled():
    """(case → collectives, what XLA said meanwhile)."""
    done = subprocess.run([sys.executable, str(PROGRAM), *CASES], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout), done.stderr


def test_nothing_is_rematerialised_against_the_plan(compiled):
    _, said = compiled
    assert "Involuntary full rematerialization" not in said


@pytest.mark.parametrize("case", CASES)
def test_no_collective_holds_a_stack_of_layers_or_the_whole_table(compiled, case):
    for collective in compiled[0][case]:
        for shape in collective["shapes"]:
            assert not (len(shape) == 3 and shape[0] == LAYERS), collective
            assert shape != [VOCABULARY, WIDTH], collective


@pytest.mark.parametrize("case", CASES)
def test_weights_are_gathered_in_the_layer_that_needs_them(compiled, case):
    gathers = [c for c in compiled[0][case] if c["kind"] == "all-gather"]
    inside = {shape for c in gathers if not c["top"] for shape in map(tuple, c["shapes"])}
    assert inside and all(len(shape) == 2 for shape in inside)
    for gather in (g for g in gathers if g["top"]):
        for shape in gather["shapes"]:
            # Outside: token ids and the like, a number or two a row; where tokens are predicted, a host's part of the
            # table.
            tokens = len(shape) <= 2 and shape[0] <= ROWS
            assert tokens or (case == "all" and shape == [VOCABULARY // 2, WIDTH]), gather


@pytest.mark.parametrize("case", CASES)
def test_rows_stay_where_they_are(compiled, case):
    for collective in compiled[0][case]:
        kinds = ("all-gather", "all-reduce", "all-to-all", "reduce-scatter")
        assert collective["kind"] in kinds, collective
        if collective["kind"] == "all-to-all":  # embeddings are looked up by columns, and then go to their rows
            assert (collective["top"] and "embed" in collective["name"]) or "sharding_constraint" in collective["name"]
        if not collective["top"]:
            assert all(shape[:2] != [ROWS, SLOTS] for shape in collective["shapes"]), collective


def test_frozen_layers_have_no_gradients_to_add_up(compiled):
    in_layers = [c for c in compiled[0]["frozen"] if c["kind"] == "all-reduce" and not c["top"]]
    assert in_layers == []
    adapters = [c for c in compiled[0]["lora"] if c["kind"] == "all-reduce" and not c["top"]]
    assert all(len(shape) != 2 or min(shape) <= 4 for c in adapters for shape in c["shapes"])
