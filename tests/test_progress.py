"""Plain lines show the progress of a run, without an ETA before the first timed step."""

import time

import pytest

from gpmjax import progress
from gpmjax.progress import ProgressBar, track


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_lines_show_steps_facts_and_the_remaining_time(clock, capsys):
    bar = ProgressBar("encode", 50, 10)  # an earlier run had done ten
    bar.update(10)
    for seconds, step in ((110.0, 12), (120.0, 20), (130.0, 50)):
        clock[0] = seconds
        bar.update(step, {"loss": 0.25})
    bar.close()
    assert capsys.readouterr().err.splitlines() == [
        "encode 10/50",  # no step is timed yet: no ETA
        "encode 20/50  loss 0.25  ETA 60 s",  # ten steps in twenty seconds; 110 s was too soon for a line
        "encode 50/50  loss 0.25  in 30 s",
    ]


def test_a_killed_loop_leaves_a_line(capsys):
    with pytest.raises(KeyboardInterrupt):
        for _ in track(iter("abc"), "judging", 3):
            raise KeyboardInterrupt
    assert capsys.readouterr().err == "judging 0/3\n"
    assert list(track("abc", "judging", 3)) == list("abc")


def test_only_the_first_host_prints(monkeypatch, capsys):
    monkeypatch.setattr(progress, "is_first_host", lambda: False)
    assert list(track("ab", "judging", 2)) == ["a", "b"] and capsys.readouterr().err == ""
