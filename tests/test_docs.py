"""Every code block in README and docs is executed and its output compared.

`pycon` blocks are doctests and share their names within a page. In `console` blocks every `$` line
is a command, run by bash from the project's root, and what follows is what it prints, errors
included; a line of dots stands for any lines. No other block is allowed. Where a command is nothing
but `thanos` or a script, maybe in another folder, this process runs it, because a new one would
import PyTorch again, which takes longer than most commands; the rest shows that bash can.
"""

import contextlib
import doctest
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from thanos_torch import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = [page for page in PAGES if page.parent.name != "tutorials"]  # those: test_tutorials.py
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def blocks(page: Path, language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(page.read_text()) if found == language]


def commands(page: Path) -> list[tuple[str, str]]:
    """Every command of a page's console blocks, and what it prints."""
    found = []
    for block in blocks(page, "console"):
        first, *parts = re.split(r"^\$ ", block, flags=re.MULTILINE)
        assert not first, f"{page.name}: a console block starts with a command"
        found += [(part.split("\n", 1)[0], part.split("\n", 1)[1]) for part in parts]
    return found


def check_python(page: Path) -> None:
    """Run the Python blocks of a page in order, and compare what they print."""
    source = "\n".join(blocks(page, "pycon"))
    example = doctest.DocTestParser().get_doctest(source, {}, page.name, str(page), 0)
    problems: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(example, out=problems.append)
    assert runner.summarize(verbose=False).attempted > 0
    assert not problems, "".join(problems)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_of_a_kind_that_is_executed(page: Path) -> None:
    languages = {language for language, _ in BLOCK.findall(page.read_text())}
    assert languages <= {"pycon", "console"}


@pytest.mark.parametrize("page", [p for p in RUN if blocks(p, "pycon")], ids=lambda p: p.name)
def test_python_blocks_print_what_the_page_says(page: Path) -> None:
    check_python(page)


# Words and quotes after `thanos` or a script: no pipe, no second program.
ALONE = re.compile(
    r"(?:cd (?P<folder>\S+) && )?(?P<program>thanos|python) (?P<words>[^|&;<>]*)"
    r"(?P<silent> 2>/dev/null)?"
)


def run_here(command: re.Match[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What `thanos` or a script prints that is run in this process."""
    monkeypatch.chdir(ROOT / (command["folder"] or ""))
    words = shlex.split(command["words"].replace("$OLDPWD", str(ROOT)))
    printed = io.StringIO()
    errors = io.StringIO() if command["silent"] else printed
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        if command["program"] == "python":
            monkeypatch.setattr(sys, "argv", words)
            runpy.run_path(words[0], run_name="__main__")
            return printed.getvalue()
        monkeypatch.setattr(sys, "argv", ["thanos", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
    said = end.value.code  # text is what Python prints on the error stream
    return printed.getvalue() + (f"{said}\n" if isinstance(said, str) else "")


def run_by_bash(command: str) -> str:
    """What bash prints, errors included."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize(("command", "expected"), [each for page in RUN for each in commands(page)])
def test_commands_print_what_the_page_says(
    command: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = ALONE.fullmatch(command)
    printed = run_here(alone, monkeypatch) if alone else run_by_bash(command)
    assert doctest.OutputChecker().check_output(expected, printed, OPTIONS), printed
