"""One owner at a time: a second process is refused, and the lock of a dead process is taken over."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import subprocess
import sys

import pytest

from gpmjax.owner import InUse, check_output_directory, owned_directory, owned_output

HOLD = """
import sys, time
from gpmjax.owner import owned_directory
with owned_directory(sys.argv[1]):
    print("mine", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that owns ``tmp_path / "run"``."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.communicate()


def enter(directory):
    with owned_directory(directory):
        pass


def test_a_second_process_is_refused_and_takes_over_after_a_kill(tmp_path, holder, caplog):
    run = tmp_path / "run"
    with pytest.raises(InUse) as refused:
        enter(run)
    message = str(refused.value)
    assert (
        message.startswith(f"{run}: in use by process {holder.pid} on {socket.gethostname()} since ")
        and "\n" not in message
    )
    holder.kill()
    holder.wait()
    assert json.loads((run / ".lock").read_text(encoding="utf-8"))["pid"] == holder.pid
    with caplog.at_level("INFO"):
        enter(run)
    assert f"taken over from process {holder.pid} on" in caplog.text
    assert list(run.iterdir()) == []


def test_without_file_locks_the_files_name_is_the_lock(tmp_path, holder, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    run = tmp_path / "run"
    with pytest.raises(InUse, match=f"process {holder.pid} on .*if that process has ended, delete .*/.lock"):
        enter(run)
    holder.kill()
    holder.wait()
    with owned_directory(run):
        assert json.loads((run / ".lock").read_text(encoding="utf-8"))["pid"] == os.getpid()
    elsewhere = {"host": "another", "pid": 1, "since": "yesterday"}
    (run / ".lock").write_text(json.dumps(elsewhere), encoding="utf-8")
    with pytest.raises(InUse, match="process 1 on another since yesterday"):
        enter(run)


@pytest.mark.parametrize("left", [b"", b"\xff\x00", b"[1]", b'{"pid": 1}'])
def test_an_unreadable_lock_file_is_ignored(tmp_path, left):
    (tmp_path / ".lock").write_bytes(left)
    enter(tmp_path)


def test_a_lock_on_a_removed_file_is_no_ownership(tmp_path, monkeypatch):
    """After a process opens the lock file and before it locks it, the owner ends and another one starts."""
    out, flock, others = tmp_path / "out.json", fcntl.flock, contextlib.ExitStack()
    owner = contextlib.ExitStack()
    owner.enter_context(owned_output(out))

    def late(*arguments):
        monkeypatch.setattr(fcntl, "flock", flock)
        owner.close()
        others.enter_context(owned_output(out))
        return flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", late)
    with others, pytest.raises(InUse), owned_output(out):
        pass
    assert not list(tmp_path.iterdir())


def test_an_unwritable_output_is_refused_before_the_work(tmp_path):
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    places = {
        "is a directory; name a file": lambda: owned_output(tmp_path).__enter__(),
        f"--out={file}/x.json: {file} is a file, no directory": lambda: owned_output(file / "x.json").__enter__(),
        f"--plots={file}: {file} is a file, no directory": lambda: check_output_directory(file, "--plots"),
        "--out=/proc/x.json: cannot be written (": lambda: owned_output("/proc/x.json").__enter__(),
        "--out=/proc/a/x.json: the directory /proc/a cannot be made (": lambda: owned_output(
            "/proc/a/x.json"
        ).__enter__(),
        f"{file}: {file} is a file, no directory": lambda: owned_directory(file).__enter__(),
    }
    for message, enter_it in places.items():
        with pytest.raises(OSError) as refused:
            enter_it()
        assert message in str(refused.value) and "\n" not in str(refused.value), message
    check_output_directory(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new"] and not list(
        (tmp_path / "new").iterdir()
    )


def test_unfinished_files_are_removed_and_an_export_that_was_moved_aside_is_moved_back(tmp_path):
    for name in (".model.ab12_x9z.new", ".model.ab12_x9z.old", ".policy.ab12_x9z.old", "policy", "kept", ".kept.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name, encoding="utf-8")
    for name in (".summary.json.123.partial", ".a.partial", "b.12.partial", "summary.json"):
        (tmp_path / name).write_text("", encoding="utf-8")
    enter(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"model", "policy", "kept", ".kept.new", ".a.partial", "b.12.partial", "summary.json"}
    assert (tmp_path / "model" / "config.json").read_text(encoding="utf-8") == ".model.ab12_x9z.old"
    (tmp_path / ".a.json.7.partial").touch(), (tmp_path / ".b.json.7.partial").touch()
    with owned_output(tmp_path / "a.json"):
        assert not (tmp_path / ".a.json.7.partial").exists() and (tmp_path / ".b.json.7.partial").exists()
