"""A step's time is from the last step's end to its own, whatever else the loop does and whenever it looks."""

import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.train.loop import Loop, LoopHooks, LoopPlan, StopRequest
from gpmjax.train.metrics import MetricsWriter, metric_lines
from gpmjax.train.speed import Speed
from gpmjax.train.state import TrainState


class Clock:
    """Stands still until somebody works."""

    now = 0.0

    def pass_until(self, moment: float) -> None:
        self.now = max(self.now, moment)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    return clock


def test_speed_is_between_ends_and_leaves_saves_and_compilation_out(clock):
    speed = Speed("tokens", hardware_flops=40.0, peak_flops=100.0)
    step = {"tokens": 10.0, "model_flops": 20.0}
    speed.start()
    assert speed.step(step, 8.0)["tokens_per_second"] == 1.25  # compiles
    assert speed.step(step, 10.0) == {"tokens_per_second": 5.0, "mfu": 0.1, "hfu": 0.2}
    clock.now = 100.0  # after a save
    speed.start()
    speed.step(step, 102.0)
    assert speed.summary() == {"tokens_per_second": 5.0, "mfu": 0.1, "hfu": 0.2} and speed.trained_units == 30
    unknown = Speed("tokens")
    assert unknown.summary() == {} and unknown.step(step, 104.0).keys() == {"tokens_per_second"}


class Promised:
    """A metric that is there when its step has ended; to read it is to wait."""

    ndim = 0

    def __init__(self, clock: Clock, end: float, value: float):
        self._clock, self._end, self._value = clock, end, value

    def is_ready(self) -> bool:
        return self._clock.now >= self._end

    def __float__(self) -> float:
        self._clock.pass_until(self._end)
        return self._value


@pytest.mark.parametrize("dispatch", ["ahead", "at once"])
def test_saves_and_evaluations_leave_no_trace_in_the_speed(clock, tmp_path, dispatch):
    ends = [0.0]

    def step(state, batch):
        ends.append(max(clock.now, ends[-1]) + 2.0)  # a device works two seconds on it
        if dispatch == "at once":
            clock.pass_until(ends[-1])
        metrics = {"loss": 1.0, "gradient_norm": 1.0, "accuracy": 1.0, "tokens": 10.0}
        metrics = {name: Promised(clock, ends[-1], value) for name, value in metrics.items()}
        return state._replace(step=state.step + 1), metrics

    def busy(result):
        clock.now += 50.0
        return result

    hooks = LoopHooks(
        batch=lambda n: n,
        put=lambda batch: batch,
        step=step,
        units="tokens",
        rows=lambda batch: np.zeros(1, np.int32),
        name_rows=str,
        evaluate=lambda state: busy({"set": {"accuracy": 1.0}}),
        save=lambda state, figures: busy(None),
    )
    plan = LoopPlan(steps=9, log_every=1, eval_every=4, save_every=3, learning_rate=lambda n: 0.1)
    writer = MetricsWriter(tmp_path)
    loop = Loop(hooks, plan, writer, StopRequest())
    loop.run(TrainState(jnp.zeros((), jnp.int32), {}, {}))
    writer.close()
    speeds = [line["tokens_per_second"] for line in metric_lines(tmp_path) if "loss" in line]
    assert speeds == [5.0] * 9
    assert loop.speed.summary() == {"tokens_per_second": 5.0} and loop.speed.trained_units == 90
