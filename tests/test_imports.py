"""Who imports whom, as design.md says, and what each part can do without."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NUMERIC = {"numpy", "scipy"}
# Files, and the modules outside the standard library that they may import at the top.
ALLOWED = [
    ("reference", NUMERIC | {"reference"}),
    ("thanos_torch", {"torch", "thanos_torch", "reference.patterns"}),
    ("verification", NUMERIC | {"hypothesis", "pytest", "reference", "verification"}),
    (
        "verification/certificate",
        NUMERIC | {"reference.patterns", "verification.certificate", "verification.thresholds"},
    ),
]
# These measure thanos_torch or prune whole models, and so may import more.
EXEMPT = (
    "thanos_torch/models",
    "thanos_torch/cli",
    "thanos_torch/evaluation",
    "verification/bench",
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
        if not str(file.relative_to(ROOT).as_posix()).startswith(EXEMPT)
    ]
    assert files
    for file in files:
        strangers = {name for name in imported(file) if not within(name, allowed)}
        assert not strangers, f"{file.relative_to(ROOT)} imports {sorted(strangers)}"


BLOCKER = """
import sys
blocked = set({blocked!r})
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
{statement}
"""
MODELS = ("transformers", "safetensors", "gguf", "typer", "rich", "tqdm", "datasets")
BEYOND_NUMPY = ("torch", "thanos_torch", "hypothesis", "matplotlib", "pytest", *MODELS)


@pytest.mark.parametrize(
    ("statement", "blocked"),
    [
        ("import reference", BEYOND_NUMPY),
        ("from verification import certify", BEYOND_NUMPY),
        ("from verification.catalogue import catalogue; catalogue()", BEYOND_NUMPY),
        (
            "from verification.conformance.command import main; "
            "assert main(['reference', '--only=-06-']) == 0",
            BEYOND_NUMPY,
        ),
        ("import thanos_torch", (*MODELS, "hypothesis", "matplotlib", "verification")),
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
