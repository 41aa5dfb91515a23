"""The progress of a run, in a folder beside its result: never start over."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thanos_torch.models.durable import move, sync, write_json
from thanos_torch.models.failpoints import begin
from thanos_torch.models.fingerprint import differences

RUN = "run.json"
_OWN = {"lock", RUN, f"{RUN}.unfinished", "checkpoint", "activations", "masks", "journal"}


class WorkFolder:
    """`OUT.partial`: what is done of the run whose result will be `OUT`.

    A decoder block is done when its entry in the journal is there, which is written last.

    path         the folder itself
    checkpoint   the result as far as it goes, which gets its name at the end
    activations  what the next block reads
    masks        of finished blocks
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint"
        self.activations = path / "activations"
        self.masks = path / "masks"
        self._journal = path / "journal"

    def prepare(self, fingerprint: Mapping[str, Any]) -> None:
        """Begin a run, or continue one. Raises ValueError if it was another run."""
        stored = self._read(self.path / RUN)
        if stored is None:
            strangers = sorted({entry.name for entry in self.path.iterdir()} - _OWN)
            if strangers:
                raise ValueError(f"{self.path} is needed for the progress, but has {strangers[0]}")
            for folder in (self.checkpoint, self.masks, self._journal):
                folder.mkdir(exist_ok=True)
            write_json(self.path / RUN, fingerprint)
            return
        # Through JSON, for what a file cannot tell apart: tuples and lists.
        found = differences(stored, json.loads(json.dumps(fingerprint)))
        if found:
            raise ValueError(
                f"{self.path} holds an unfinished run that differs: {'; '.join(found)}. "
                "Repeat its command, or choose another --out, or remove that folder"
            )
        self._sweep()

    def entry(self, number: int) -> dict[str, Any] | None:
        """What the journal says of a decoder block; None if that is not done."""
        return self._read(self._entry(number))

    def write_entry(self, number: int, content: Mapping[str, Any]) -> None:
        """The block is done from now on."""
        begin("journal")
        write_json(self._entry(number), content)

    def forget(self, number: int) -> None:
        """The block is not done: what it left is damaged."""
        self._entry(number).unlink(missing_ok=True)
        sync(self._journal)

    def finish(self, out: Path) -> None:
        """Give the result its name, in one step, and remove the rest."""
        begin("finish")
        sync(self.checkpoint)
        move(self.checkpoint, out)
        shutil.rmtree(self.path, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what a killed process left half-written: our own files, and safetensors'."""
        for folder in (self.checkpoint, self.masks, self._journal):
            for file in [*folder.glob("*.unfinished"), *folder.glob(".tmp*")]:
                file.unlink()

    def _entry(self, number: int) -> Path:
        return self._journal / f"{number:05}.json"

    @staticmethod
    def _read(file: Path) -> dict[str, Any] | None:
        try:
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            raise ValueError(f"{file} is damaged: remove it, and run the command again") from None
        return content


def work_folder_of(out: Path) -> Path:
    """Where the progress of a run is kept until `out` is there."""
    return out.with_name(f"{out.name}.partial")


def has_progress(out: Path) -> bool:
    """Whether a run whose result will be `out` has begun."""
    return (work_folder_of(out) / RUN).is_file()


@contextmanager
def work_folder(out: Path) -> Iterator[WorkFolder]:
    """The work folder of `out`, for this process alone.

    Raises ValueError if another process has it. What is done stays there if this is left by an
    error, whose message says so.
    """
    path = work_folder_of(out)
    with alone_in(path):
        yield WorkFolder(path)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """No other process that asks for the same is in the folder, which is made if need be.

    Raises ValueError if one is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run is at work in {folder}") from None
        yield
    finally:
        os.close(lock)


def discard_progress(out: Path) -> None:
    """Remove what is left of a work folder whose result is there."""
    if work_folder_of(out).exists():
        with work_folder(out) as work:
            shutil.rmtree(work.path, ignore_errors=True)
