"""Meshes on the shapes of real slices, in a separate process: libtpu reads its environment only once, and logs."""

import json
import subprocess
import sys

import pytest

CODE = """
import json, sys
from gpmjax.aot.program import slice_devices
from gpmjax.sharding import make_mesh
devices = slice_devices(sys.argv[1])
mesh = make_mesh(tensor=int(sys.argv[2]), devices=list(devices))
coordinates = [tuple(device.coords) for device in mesh.devices.flat]
neighbours = [[sum(abs(a - b) for a, b in zip(*pair)) for pair in zip(row, row[1:])] for row in
              [[device.coords for device in row] for row in mesh.devices.reshape(-1, mesh.shape["tensor"])]]
print(json.dumps([dict(mesh.shape), len(set(coordinates)), max(map(max, neighbours))]))
"""


# In the first case an axis of the mesh is part of the slice's axis, in the second it is a whole one.
@pytest.mark.parametrize("topology, tensor, chips", [("v6e:4x8", 2, 32), ("v5p:2x4x4", 2, 32)])
def test_an_axis_may_be_part_of_a_slices(topology, tensor, chips):
    command = [sys.executable, "-c", CODE, topology, str(tensor)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    shape, places, farthest = json.loads(done.stdout.splitlines()[-1])
    assert shape == {"data": 1, "fsdp": chips // tensor, "tensor": tensor} and places == chips
    assert farthest == 1  # chips that share a row are neighbours
