"""How a killed run resumes: its finished steps and fingerprint, in a folder beside the result."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from thanos_torch.runtime.files import begin, move, sha256_of, sync, write_json
from thanos_torch.runtime.strangers import printable

PACKAGES = ("thanos-pruning", "torch", "transformers", "numpy", "safetensors")
RUN = "run.json"  # the fingerprint of the run in a work folder
_OWN = {
    *("lock", RUN, f"{RUN}.unfinished"),
    *("checkpoint", "parts", "activations", "masks", "journal"),
}


def fingerprint(
    folder: Path, shards: Iterable[Path], windows: Iterable[Tensor], options: Mapping[str, object]
) -> dict[str, Any]:
    """What a run depends on, JSON-able; compare two with `differences`.

    folder   of the checkpoint, with its weight files `shards`
    windows  token ids without padding, for each length of windows (number, length)
    options  whatever else tells runs apart

    Of a weight file we take its size, its time of change and a hash of its header (names, shapes,
    places). Reading a checkpoint that is larger than the memory would take minutes at every start,
    and a change that keeps the time is made on purpose. Small files are hashed as a whole.
    """
    files = {file.name: _of_weights(file) for file in sorted(set(shards))}
    texts = [*folder.glob("*.json"), *folder.glob("*.py")]
    small = {file.name: sha256_of(file) for file in sorted(texts)}
    return {
        "model": files | small,
        "data": _of_windows(windows),
        "options": dict(options),
        "versions": versions(),
        # Other numbers of threads, or other instructions, add up in another order.
        "arithmetic": {
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
        },
    }


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name where two fingerprints differ: `options pattern: 2:4 there, 4:8 here`."""
    found: list[str] = []
    # JSON, which turns tuples into lists, makes no difference.
    stored, wanted = (json.loads(json.dumps(each)) for each in (stored, wanted))
    for part, content in wanted.items():
        before = stored.get(part)
        if not isinstance(content, Mapping) or not isinstance(before, Mapping):
            if before != content:
                found.append(f"{part}: another one")
        elif part == "model":
            names = sorted(content.keys() | before.keys())
            changed = (name for name in names if before.get(name) != content.get(name))
            found += [f"model file {name}: changed" for name in changed]
        else:
            found += _values_that_differ(part, before, content)
    return [printable(line) for line in found]


def _values_that_differ(where: str, before: object, now: object) -> list[str]:
    """Compare two values, which may be nested mappings; every line says where they differ."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [f"{where}: {before} there, {now} here"] if before != now else []
    names = sorted(before.keys() | now.keys())
    return [
        line
        for name in names
        for line in _values_that_differ(f"{where} {name}", before.get(name), now.get(name))
    ]


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    return {name: _version(name) for name in PACKAGES}


def _of_windows(windows: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for group in windows:
        digest.update(repr(tuple(group.shape)).encode())
        digest.update(group.cpu().numpy().tobytes())
    return digest.hexdigest()


def _of_weights(file: Path) -> str:
    facts = file.stat()
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        header = hashlib.sha256(content.read(length)).hexdigest()
    return f"{facts.st_size} bytes, changed {facts.st_mtime_ns}, header {header}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"  # run from its source folder


@dataclass(frozen=True)
class Seal:
    """Writes JSON files that are believed only by the same run, and only as they were written.

    run  SHA-256 of the run's fingerprint
    """

    run: str

    @classmethod
    def of(cls, fingerprint: Mapping[str, Any]) -> Self:
        """The seal of the run with this fingerprint."""
        return cls(hashlib.sha256(_canonical(fingerprint)).hexdigest())

    def write(self, file: Path, content: object) -> None:
        """Write a file whose name and content cannot change unnoticed."""
        write_json(file, {"seal": self._seal(file, content), "content": content})

    def read(self, file: Path) -> Any:
        """The content of a file; None without one. Raises ValueError unless the seal holds."""
        if not file.exists():
            return None
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            if stored["seal"] == self._seal(file, stored["content"]):
                return stored["content"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        raise ValueError(f"{file} is damaged, or of another run")

    def _seal(self, file: Path, content: object) -> str:
        whole = _canonical([self.run, file.name, content])
        return hashlib.sha256(whole).hexdigest()


def _canonical(content: object) -> bytes:
    """JSON text that is the same before and after a journey through a file."""
    return json.dumps(json.loads(json.dumps(content)), sort_keys=True).encode()


class WorkFolder:
    """`OUT.partial`: what is done of the run whose result will be `OUT`.

    A decoder block, or a file of the result, is done when its entry in the journal is there, which
    is written last and under the seal of the run: what another run left is never taken for this
    one's.

    path         the folder itself
    checkpoint   the files of the result that are written; moved to OUT at the end
    parts        weights of finished blocks, and other tensors, until they are in `checkpoint`
    activations  outputs of the last finished block, which the next one reads
    masks        masks of finished blocks
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint"
        self.parts = path / "parts"
        self.activations = path / "activations"
        self.masks = path / "masks"
        self._journal = path / "journal"

    def prepare(self, fingerprint: Mapping[str, Any]) -> None:
        """Begin a run, or continue one. Raises ValueError if the folder holds another run."""
        self._seal = Seal.of(fingerprint)
        stored = self._stored_fingerprint()
        if stored is None:
            self._refuse_other_runs()
        else:
            found = differences(stored, fingerprint)
            if found:
                raise ValueError(
                    f"{self.path} holds an unfinished run that differs: {'; '.join(found)}. "
                    "Repeat its command, or choose another --out, or discard it with --start-over"
                )
        for folder in (self.checkpoint, self.parts, self.masks, self._journal):
            folder.mkdir(exist_ok=True)
        if stored is None:
            write_json(self.path / RUN, fingerprint)
        self._sweep()

    def refuse_strangers(self) -> None:
        """Raise ValueError if the folder holds anything but the progress of a run."""
        strangers = sorted({entry.name for entry in self.path.iterdir()} - _OWN)
        if strangers:
            raise ValueError(f"{self.path} is needed for the progress, but has {strangers[0]}")

    def entry(self, number: int) -> dict[str, Any] | None:
        """The journal's entry for a block or a file of the result; None if that is not done.

        Raises ValueError for an entry that is damaged or of another run, and removes it.
        """
        try:
            found: dict[str, Any] | None = self._seal.read(self._entry(number))
        except ValueError as error:
            self.forget(number)
            raise ValueError(f"{error}: the same command makes it again") from None
        return found

    def write_entry(self, number: int, content: Mapping[str, Any]) -> None:
        """Record in the journal that a block or a file of the result is done."""
        begin("journal")
        self._seal.write(self._entry(number), content)

    def forget(self, number: int) -> None:
        """Remove an entry, because one of its files is damaged."""
        self._entry(number).unlink(missing_ok=True)
        sync(self._journal)

    def finish(self, out: Path) -> None:
        """Move the result to `out` in one step, and remove the rest."""
        begin("finish")
        sync(self.checkpoint)
        move(self.checkpoint, out)
        shutil.rmtree(self.path, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove half-written files that a killed process left, of this program or safetensors."""
        for folder in (self.checkpoint, self.parts, self.masks, self._journal):
            for file in [*folder.glob("*.unfinished"), *folder.glob(".tmp*")]:
                file.unlink()

    def _entry(self, number: int) -> Path:
        return self._journal / f"{number:05}.json"

    def _stored_fingerprint(self) -> dict[str, Any] | None:
        """The fingerprint of the run in the folder; None if it is missing or damaged."""
        try:
            content = json.loads((self.path / RUN).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None

    def _refuse_other_runs(self) -> None:
        """Raise ValueError if a folder without a fingerprint holds what is not of this run."""
        self.refuse_strangers()
        for file in sorted(self._journal.glob("*.json")):
            try:
                self._seal.read(file)
            except ValueError as error:
                raise ValueError(
                    f"{error}, and {self.path / RUN}, which says of which run, is missing or "
                    f"damaged: choose another --out, or remove all of {self.path}"
                ) from None


def work_folder_of(out: Path) -> Path:
    """The folder that keeps the progress of a run until `out` exists."""
    return out.with_name(f"{out.name}.partial")


def has_progress(out: Path) -> bool:
    """Whether a run whose result will be `out` has begun."""
    work = work_folder_of(out)
    return (work / RUN).is_file() or any((work / "journal").glob("*.json"))


def unfinished_options(out: Path) -> Mapping[str, Any]:
    """The options of the unfinished run whose result will be `out`; empty if there is none."""
    try:
        content = json.loads((work_folder_of(out) / RUN).read_text(encoding="utf-8"))
        options: dict[str, Any] = dict(content["options"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return options


@contextmanager
def work_folder(out: Path) -> Iterator[WorkFolder]:
    """The work folder of `out`, for this process alone.

    Raises ValueError if another process has it, or if it cannot be renamed to `out`.
    """
    path = work_folder_of(out)
    if path.is_symlink() or os.path.ismount(path):
        raise ValueError(f"{path} is needed for the progress, but is a link or a mounted disk")
    with alone_in(path):
        yield WorkFolder(path)


@contextmanager
def resumable_run(out: Path, fingerprint: Mapping[str, Any]) -> Iterator[WorkFolder]:
    """The work folder of a run that begins, or that goes on where an earlier process ended.

    Raises ValueError if the folder is in use or holds another run. If a ValueError or an OSError
    leaves the context, its message says what is kept. The same command can help against an OSError,
    a full disk for example, but not against what is wrong with a model.
    """
    with work_folder(out) as work:
        work.prepare(fingerprint)
        kept = f"What is done so far is kept in {work.path}"
        try:
            yield work
        except OSError as error:
            raise OSError(f"{error}. {kept}: the same command goes on from there") from error
        except ValueError as error:
            raise ValueError(f"{error}. {kept}; --start-over discards it") from error


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a folder, which is made if need be; ValueError if another process has locked it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another run is at work in {folder}") from None
    try:
        yield
    finally:
        (folder / "lock").unlink(missing_ok=True)
        lock.release()


def discard_progress(out: Path) -> None:
    """Remove the work folder of `out`. Raises ValueError if it is in use or holds other files."""
    if work_folder_of(out).exists():
        with work_folder(out) as work:
            work.refuse_strangers()
            shutil.rmtree(work.path, ignore_errors=True)
