"""Fixtures of the command-line tests: a small saved model, and a real browser.

The browser is driven through DevTools' pipe, without a port, a driver program or a library. To install one on Debian or
Ubuntu: apt-get install chromium (or google-chrome). For a browser in another place, set CHROMIUM to its program.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np
import pytest

from gpmjax.data.chat import ChatFormat
from gpmjax.evals.held_out import held_out
from gpmjax.hub import load_tokenizer, save_preference_model
from gpmjax.models.config import DecoderConfig
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "chrome-headless-shell")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--hide-scrollbars", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-pipe",
)  # fmt: skip
# The browser reads DevTools' messages from descriptor 3 and writes its own to descriptor 4.
TO_3_AND_4 = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])"
)
PATIENCE = 120.0


class Browser:
    """One page in a browser. Messages are JSON objects that end in a zero byte."""

    def __init__(self, program: str, profile: str):
        there, ours = os.pipe()
        mine, back = os.pipe()
        command = [
            sys.executable,
            "-c",
            TO_3_AND_4,
            str(there),
            str(back),
            program,
            *FLAGS,
            f"--user-data-dir={profile}",
        ]
        self._process = subprocess.Popen(
            [*command, "about:blank"], pass_fds=(there, back), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(there)
        os.close(back)
        self._write, self._read, self._buffer, self._number, self._session = ours, mine, b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer. Events that arrive before the answer are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda message: message.get("id") == self._number)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def open(self, address: str, *, width: int, scheme: str = "light", script: bool = True) -> None:
        """Loads a page completely, at a width in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.events.clear()
        self.call("Page.navigate", url=address)
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def complaints(self) -> list[dict[str, Any]]:
        """Every console call, exception and log entry."""
        methods = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event for event in self.events if event["method"] in methods]

    def requests(self) -> list[str]:
        """Addresses that the page requested, including its own."""
        return [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._write)  # the browser exits when its pipe is closed
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def _until(self, wanted) -> dict[str, Any]:
        seen, ends = 0, time.monotonic() + PATIENCE
        while True:
            for event in self.events[seen:]:
                if wanted(event):
                    return event
            seen = len(self.events)
            while b"\0" not in self._buffer:
                ready, _, _ = select.select([self._read], [], [], max(0.0, ends - time.monotonic()))
                part = os.read(self._read, 1 << 20) if ready else b""
                if not part:
                    raise RuntimeError(f"the browser {'ended' if ready else f'did not answer in {PATIENCE:.0f} s'}")
                self._buffer += part
            line, _, self._buffer = self._buffer.partition(b"\0")
            message = json.loads(line)
            if "method" in message:
                self.events.append(message)
            elif wanted(message):
                return message


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.fail(
            f"no browser: apt-get install chromium, or set CHROMIUM (looked for {', '.join(NAMES)})", pytrace=False
        )
    browser = Browser(program, str(tmp_path_factory.mktemp("profile")))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A directory with a general preference model of random weights."""
    tokenizer = load_tokenizer("smollm2")
    config = DecoderConfig(len(tokenizer), 8, num_layers=1, num_heads=2, mlp_size=8, tie_embeddings=True)
    model = PreferenceModel(config, PreferenceSpec(dim=4, gate="softmax"))
    (batch, *_) = held_out("builtin:letters", ChatFormat(tokenizer), max_length=128, rows_per_batch=1).batches()
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    numbers = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: numbers.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_preference_model(directory, params, config, model.spec, tokenizer)
    return directory
