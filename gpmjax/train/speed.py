"""Speed of training: units a second, and utilisation of the chips."""

import sys
import time
from typing import NamedTuple

import jax

from gpmjax.chips import peak_flops
from gpmjax.distributed import is_first_host


def known_peak() -> float | None:
    """Peak FLOP/s of all devices together; None, with one line of warning, for a kind that is not known."""
    kind = jax.devices()[0].device_kind
    peak = peak_flops(kind)
    if peak is None and is_first_host():
        print(f"train: the peak FLOP/s of {kind!r} is not known, so no MFU is shown", file=sys.stderr)
    return peak and peak * jax.device_count()


class Timed(NamedTuple):
    """Amounts, and the seconds that they took."""

    seconds: float = 0.0
    units: float = 0.0
    model_flops: float = 0.0
    hardware_flops: float = 0.0


class Speed:
    """Turns the times at which steps end into units a second, and into utilisation where the chips' peak is known.

    Args:
      units: the metric that counts tokens or responses.
      hardware_flops: FLOPs executed per step, or None.
      peak_flops: FLOP/s of all devices together, or None.
    """

    def __init__(self, units: str, hardware_flops: float | None = None, peak_flops: float | None = None):
        self._units, self._hardware_flops, self._peak = units, hardware_flops, peak_flops
        self._last = time.monotonic()
        self._compiled = False
        self._timed = Timed()
        self.trained_units = 0

    def start(self) -> None:
        """Begins the next step now, so that an evaluation or a save before it does not count."""
        self._last = time.monotonic()

    def step(self, values: dict[str, float], ended: float) -> dict[str, float]:
        """Figures of a step that ended then (by ``time.monotonic``) and whose metrics are ``values``."""
        seconds, self._last = max(ended - self._last, 1e-9), ended
        timed = Timed(seconds, values[self._units], values.get("model_flops", 0.0), self._hardware_flops or 0.0)
        self.trained_units += round(timed.units)
        if self._compiled:  # the first step's time is the compiler's
            self._timed = Timed(*(total + new for total, new in zip(self._timed, timed, strict=True)))
        self._compiled = True
        return self._figures(timed)

    def summary(self) -> dict[str, float]:
        """The same over all steps but the first, which compiles; empty when there was no other."""
        return self._figures(self._timed) if self._timed.seconds else {}

    def _figures(self, timed: Timed) -> dict[str, float]:
        figures = {f"{self._units}_per_second": timed.units / timed.seconds}
        for name, flops in (("mfu", timed.model_flops), ("hfu", timed.hardware_flops)):
            if flops and self._peak:
                figures[name] = flops / timed.seconds / self._peak
        return figures
