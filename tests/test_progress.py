"""Plain lines say how far a run is, with no time left before one is known."""

import time

import pytest

from gpmjax import progress
from gpmjax.progress import ProgressBar, track


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_lines_say_what_is_done_and_what_is_left(clock, capsys):
    bar = ProgressBar("encode", 50, 10)  # as one that is opened when ten are done
    bar.update(10)
    for seconds, step in ((110.0, 12), (120.0, 20), (130.0, 50)):
        clock[0] = seconds
        bar.update(step, {"loss": 0.25})
    bar.close()
    assert capsys.readouterr().err.splitlines() == [
        "encode 10/50",  # nothing is timed yet: no ETA, least of all 0 s
        "encode 20/50  loss 0.25  ETA 60 s",  # ten in twenty seconds; the line at 110 s came too soon after the first
        "encode 50/50  loss 0.25  in 30 s",
    ]


def test_a_killed_loop_leaves_a_line(capsys):
    with pytest.raises(KeyboardInterrupt):
        for _ in track(iter("abc"), "judging", 3):
            raise KeyboardInterrupt
    assert capsys.readouterr().err == "judging 0/3\n"
    assert list(track("abc", "judging", 3)) == list("abc")


def test_hosts_but_the_first_are_silent(monkeypatch, capsys):
    monkeypatch.setattr(progress, "is_first_host", lambda: False)
    assert list(track("ab", "judging", 2)) == ["a", "b"] and capsys.readouterr().err == ""
