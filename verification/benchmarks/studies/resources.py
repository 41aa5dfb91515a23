"""Where the names in a plan lead to on a machine. None of it is in a results file."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from verification.benchmarks.content import content_of


@dataclass(frozen=True)
class Resources:
    """What runs are measured with.

    data    folder with a folder for some data sets, such as `c4`; others come from a hub
    models  folder with a checkpoint for some models; others come from a hub or a package
    device  where calibration runs and models are evaluated
    solver  where layers are pruned
    """

    data: Path | None = None
    models: Path | None = None
    device: str = "cpu"
    solver: str = "cpu"

    def dataset(self, name: str) -> str:
        """What `read_text` finds the data set by."""
        return _inside(self.data, name)

    def model(self, name: str) -> str:
        """What `load_model` finds the model by."""
        return _inside(self.models, name)

    def fingerprint(self, model: str, datasets: Iterable[str]) -> dict[str, str]:
        """The devices, and SHA-256 of the model and texts that are read from a folder."""
        found = {name: self.dataset(name) for name in datasets}
        return {
            "device": self.device,
            "solver": self.solver,
            f"model {model}": _content(self.model(model)),
            **{f"text {name}": _content(where) for name, where in found.items()},
        }

    def as_dict(self) -> dict[str, str | None]:
        """JSON-able; the argument of `from_dict`."""
        return {
            "data": str(self.data) if self.data else None,
            "models": str(self.models) if self.models else None,
            "device": self.device,
            "solver": self.solver,
        }

    @classmethod
    def from_dict(cls, told: dict[str, str | None]) -> "Resources":
        """What `as_dict` made, after a journey through JSON."""
        data, models = told["data"], told["models"]
        return cls(
            Path(data) if data else None,
            Path(models) if models else None,
            str(told["device"]),
            str(told["solver"]),
        )


def _inside(folder: Path | None, name: str) -> str:
    return str(folder / name) if folder and (folder / name).is_dir() else name


@cache
def _content(found: str) -> str:
    """SHA-256 of the files of a folder, or of a file; what else was named, by its name."""
    path = Path(found)
    if not path.exists():
        return found
    return content_of(path.iterdir() if path.is_dir() else [path])
