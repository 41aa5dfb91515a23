"""Imports a mutated copy of `reference` under another name, as the judge needs the right one."""

import importlib
import re
import sys
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType

import reference

FOLDER = Path(reference.__file__).parent
NAME = "mutant_reference"
_IMPORTS = re.compile(r"^(\s*(?:from|import)) reference\b", re.MULTILINE)


def sources() -> dict[str, str]:
    """The source of every module of `reference`; "__init__" is the package itself."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.py"))}


class _Texts(MetaPathFinder, InspectLoader):
    """An importer of modules from their sources."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = {
            NAME if module == "__init__" else f"{NAME}.{module}": _IMPORTS.sub(rf"\1 {NAME}", text)
            for module, text in texts.items()
        }

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname in self._texts else None

    def get_source(self, fullname: str) -> str:
        return self._texts[fullname]

    def is_package(self, fullname: str) -> bool:
        return fullname == NAME


def load(texts: dict[str, str]) -> ModuleType:
    """Import a copy of `reference` with these sources, once per process."""
    if NAME in sys.modules:
        raise RuntimeError("a process takes one mutant: its modules stay")
    sys.meta_path.insert(0, _Texts(texts))
    return importlib.import_module(NAME)
