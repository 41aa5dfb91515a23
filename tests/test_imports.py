"""Who may import whom, folder by folder, and what each part can do without."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NUMERIC = {"numpy", "scipy"}
# Imported when an array on a device comes: verification/certificate/libraries.py.
LATE = {"array_api_compat", "jax", "cupyx"}
# Files, and the modules outside the standard library that they may import at the top.
ALLOWED = [
    ("reference", NUMERIC | {"reference"}),
    ("thanos_torch", {"torch", "thanos_torch", "reference.patterns"}),
    ("thanos_torch/methods/kernels", {"torch", "triton", "thanos_torch.methods.kernels"}),
    ("verification", NUMERIC | {"hypothesis", "pytest", "reference", "verification", *LATE}),
    (
        "verification/certificate",
        NUMERIC
        | {"reference.patterns", "reference.threads", "verification.certificate"}
        | {"verification.thresholds", *LATE},
    ),
]
# These measure thanos_torch, prune whole models, or have a rule of their own, and may import more.
EXEMPT = (
    *(f"thanos_torch/{part}" for part in ("network", "checkpoint", "text", "runtime")),
    *(f"thanos_torch/{part}" for part in ("pruning", "certifying", "models", "evaluation", "cli")),
    "thanos_torch/methods/kernels",
    "verification/bench",
    "verification/fuzz/folders",
    "verification/scoreboard/adapters",
    "verification/scoreboard/layers",
)


def imported(file: Path) -> set[str]:
    """Dotted names of all modules imported anywhere in a file, the standard library left out."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add(str(node.module))
    return {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}


def within(name: str, allowed: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in allowed)


@pytest.mark.parametrize(("folder", "allowed"), ALLOWED, ids=[folder for folder, _ in ALLOWED])
def test_who_imports_whom(folder: str, allowed: set[str]) -> None:
    files = [
        file
        for file in sorted((ROOT / folder).rglob("*.py"))
        if folder.startswith(EXEMPT)
        or not str(file.relative_to(ROOT).as_posix()).startswith(EXEMPT)
    ]
    assert files
    for file in files:
        strangers = {name for name in imported(file) if not within(name, allowed)}
        assert not strangers, f"{file.relative_to(ROOT)} imports {sorted(strangers)}"


# Parts of thanos_torch, and the parts that each may import beside itself: no import runs upwards.
BELOW: dict[str, set[str]] = {
    "methods": set(),
    "forms": set(),
    "text": {"runtime"},
    "runtime": set(),
    "network": {"methods", "runtime"},
    "checkpoint": {"methods", "forms", "runtime", "network", "text"},
    "evaluation": {"text", "runtime", "network"},
    "pruning": {"methods", "text", "runtime", "network", "checkpoint"},
    "certifying": {"runtime", "network", "checkpoint", "pruning"},
    "models": {"text", "runtime", "checkpoint", "evaluation", "pruning", "certifying"},
    "cli": {"text", "runtime", "checkpoint", "evaluation", "pruning", "models"},
    "conformance": {"thanos_torch"},
    "__init__": {"methods"},
    "__main__": {"cli"},
}


def parts_of(folder: Path) -> dict[str, list[Path]]:
    """The files of every part of a package: a folder or a module."""
    parts: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*.py")):
        parts.setdefault(file.relative_to(folder).parts[0].removesuffix(".py"), []).append(file)
    return parts


def test_every_part_has_its_place() -> None:
    assert set(parts_of(ROOT / "thanos_torch")) == set(BELOW)


@pytest.mark.parametrize("part", BELOW)
def test_no_import_runs_upwards(part: str) -> None:
    allowed = {part, *BELOW[part]}
    for file in parts_of(ROOT / "thanos_torch")[part]:
        names = [name for name in imported(file) if within(name, {"thanos_torch"})]
        used = {name.split(".")[1] if "." in name else name for name in names}
        assert used <= allowed, f"{file.relative_to(ROOT)} imports {sorted(used - allowed)}"


def test_nobody_imports_the_benchmarks_from_below() -> None:
    below = [*(ROOT / "thanos_torch").rglob("*.py"), *(ROOT / "reference").rglob("*.py")]
    for file in below:
        assert not any(within(name, {"verification.benchmarks"}) for name in imported(file)), file


@pytest.mark.parametrize("part", ["checkpoint", "pruning", "models", "evaluation", "cli"])
def test_one_file_opens_checkpoints(part: str) -> None:
    files = parts_of(ROOT / "thanos_torch")[part]
    found = {file.name for file in files if any(within(n, {"safetensors"}) for n in imported(file))}
    assert found <= {"shards.py"}


def test_no_class_name_occurs_twice() -> None:
    found: dict[str, list[str]] = {}
    for package in ("thanos_torch", "verification"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, []).append(str(file.relative_to(ROOT)))
    assert not {name: files for name, files in found.items() if len(files) > 1}


BLOCKER = """
import sys
blocked = set({blocked!r})
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(name + " is blocked", name=name)
sys.meta_path.insert(0, Block())
{statement}
"""
WITHOUT_MODELS = """
import thanos_torch.cli as cli
for arguments in (["--version"], ["verify", "reference", "--only=-06-"]):
    sys.argv[1:] = arguments
    try:
        cli.main()
    except SystemExit as end:
        assert end.code == 0, arguments
    else:
        raise AssertionError("a command ends the process")
"""
MODELS = ("transformers", "safetensors", "gguf", "typer", "rich", "tqdm", "datasets")
BEYOND_NUMPY = (*LATE, "torch", "thanos_torch", "hypothesis", "matplotlib", "pytest", *MODELS)


@pytest.mark.parametrize(
    ("statement", "blocked"),
    [
        (
            "import reference; from verification import certify; "
            "from verification.catalogue import catalogue; catalogue(); "
            "from verification.conformance.command import main; "
            "assert main(['reference', '--only=-06-']) == 0",
            BEYOND_NUMPY,
        ),
        ("from thanos_torch import *", (*MODELS, "hypothesis", "matplotlib", "verification")),
        # Windows has neither of the last two.
        ("import thanos_torch.models", ("verification", "fcntl", "resource")),
        (
            WITHOUT_MODELS,
            (*MODELS, "hypothesis", "matplotlib"),
        ),
    ],
)
def test_imports_do_without(statement: str, blocked: tuple[str, ...]) -> None:
    run_blocked(statement, blocked, 0)


def test_the_blocker_blocks() -> None:
    run_blocked("import reference", ("numpy",), 1)


def run_blocked(statement: str, blocked: tuple[str, ...], expected: int) -> None:
    script = BLOCKER.format(blocked=blocked, statement=statement)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == expected, done.stderr
