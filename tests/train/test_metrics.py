"""Metrics on disk: replaced whole, never truncated in place; and a full disk, which must neither hang a run nor lose
a line."""

import json
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from gpmjax import files
from gpmjax.train.metrics import MetricsWriter, metric_lines
from gpmjax.train.tensorboard import TensorBoard


def events(directory):
    """Every (step, {name: value}) of the event files, in TFRecord format."""
    found = []
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found.append((event.step, {value.tag: value.simple_value for value in event.summary.value}))
            data = data[16 + length :]
    return found


def test_lines_of_steps_to_come_again_are_dropped_and_tensorboard_has_the_same_numbers(tmp_path):
    writer = MetricsWriter(tmp_path)
    for step in (1, 2, 3):
        writer.write(step, {"loss": 1.0 / step, "eval": {"set": {"nll": 0.5, "name": "x"}}, "none": None})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "lo')  # a stump
    assert events(tmp_path / "tensorboard")[3:] == [
        (step, {"loss": pytest.approx(1.0 / step), "eval/set/nll": 0.5}) for step in (1, 2, 3)
    ]
    resumed = MetricsWriter(tmp_path, resumed_step=2)
    resumed.write(3, {"loss": 0.25})
    resumed.close()
    assert [(line["step"], line["loss"]) for line in metric_lines(tmp_path)] == [(1, 1.0), (2, 0.5), (3, 0.25)]


def test_a_kill_while_lines_are_dropped_loses_none(tmp_path, monkeypatch):
    writer = MetricsWriter(tmp_path)
    writer.write(1, {"loss": 1.0})
    writer.close()

    def killed(*_):
        assert json.loads((tmp_path / "metrics.jsonl").read_text(encoding="utf-8"))["step"] == 1
        raise SystemExit

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(SystemExit):
        MetricsWriter(tmp_path, resumed_step=1)
    assert len(metric_lines(tmp_path)) == 1


def test_a_garbled_line_is_left_out_by_name(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n\xff\n[]\n{"step": "x"}\n{"step": 2}\n')
    MetricsWriter(tmp_path, resumed_step=2).close()
    assert [line["step"] for line in metric_lines(tmp_path)] == [1, 2]
    assert [f"metrics.jsonl:{n}: garbled line" in caplog.text for n in (1, 2, 3, 4, 5)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_tensorboard_is_gone_on_without_when_the_disk_is_full(tmp_path, full_disk, caplog):
    board = TensorBoard(tmp_path / "tensorboard", purge_step=1)
    with full_disk(20_000):
        for step in range(2_000):
            board.write(step, [("loss", 1.0)])
        board.close()
    (record,) = caplog.records
    assert (
        record.getMessage()
        == f"{tmp_path / 'tensorboard'}: cannot be written (File too large); the run goes on without TensorBoard"
    )
    blocked = tmp_path / "file"
    blocked.touch()
    TensorBoard(blocked, purge_step=1).write(1, [("loss", 1.0)])


def test_a_metrics_file_that_cannot_grow_stops_the_run_by_name_and_keeps_whole_lines(tmp_path, full_disk):
    writer = MetricsWriter(tmp_path)
    with (
        full_disk(500),
        pytest.raises(OSError, match=r"metrics.jsonl: the line of step \d+ is not written \(File too large\)"),
    ):
        for step in range(1, 1000):
            writer.write(step, {"loss": 1.0})
    writer.close()
    steps = [line["step"] for line in metric_lines(tmp_path)]
    assert len(steps) > 10 and steps == list(range(1, len(steps) + 1))
