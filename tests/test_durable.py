"""Files and folders get their names when they are on the disk, and not before."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from lipwright.avatar.storage import new_folder
from lipwright.durable import take_name
from lipwright.errors import AvatarError
from lipwright.prepare.film import write_atomically


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is waited for, and what is renamed, in order."""
    told: list[str] = []
    sync = os.fsync

    def waited(handle: int) -> None:
        told.append(f"wait for {Path(f'/proc/self/fd/{handle}').readlink().name}")
        sync(handle)

    def noted(method: Any) -> Any:
        def renamed(self: Path, target: Path) -> Path:
            told.append(f"name {target.name}")
            result: Path = method(self, target)
            return result

        return renamed

    monkeypatch.setattr(os, "fsync", waited)
    monkeypatch.setattr(Path, "replace", noted(Path.replace))
    monkeypatch.setattr(Path, "rename", noted(Path.rename))
    return told


def test_a_file_is_on_the_disk_before_its_name_is(tmp_path: Path, events: list[str]) -> None:
    write_atomically(tmp_path / "piece.npz", lambda part: part.write_bytes(b"arrays"))
    assert events == ["wait for part-piece.npz", "name piece.npz", f"wait for {tmp_path.name}"]


def test_an_avatar_is_on_the_disk_before_its_name_is(tmp_path: Path, events: list[str]) -> None:
    with new_folder(tmp_path / "me.avatar", replace=False) as draft:
        (draft / "avatar.json").touch()
        (draft / "checkpoint").mkdir()
        (draft / "checkpoint" / "model.onnx").touch()
    assert events[-2:] == ["name me.avatar", f"wait for {tmp_path.name}"]
    assert {"wait for avatar.json", "wait for model.onnx", "wait for checkpoint"} <= set(events[:-2])


def test_a_disk_that_refuses_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (path := tmp_path / "plan.json").write_text("older")
    (part := tmp_path / "plan.part").write_text("newer")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        take_name(part, path)
    with pytest.raises(AvatarError, match="Input/output"):
        write_atomically(path, lambda part: part.write_text("newest"))
    assert path.read_text() == "older"


def test_a_file_that_may_only_be_read_is_waited_for(tmp_path: Path) -> None:
    (part := tmp_path / "model.part").write_bytes(b"weights")
    part.chmod(0o444)
    take_name(part, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
