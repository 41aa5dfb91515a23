"""`--help`, `-h`, `--version`, and wrong command lines."""

import re

import pytest

from tests.models.conftest import Thanos

COMMANDS = {
    "thanos": (),
    **{
        name: (name,)
        for name in ("prune", "inspect", "certify", "reapply", "pack", "unpack", "eval", "verify")
    },
    "bench": ("bench",),
    **{f"bench {name}": ("bench", name) for name in ("speed", "compare", "cost", "inference")},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_h_is_help_and_fits_80_columns(
    thanos: Thanos, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    words = COMMANDS[command]
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        short, long = thanos(*words, "-h"), thanos(*words, "--help")
        assert (short.status, short.out) == (0, long.out)
        assert "usage: thanos" in long.out.lower()
        if columns == "80":
            assert max(map(len, long.out.splitlines())) <= 80
    assert "..." not in long.out.partition("Commands:")[2]  # no line of a command is cut


def test_options_are_in_groups(thanos: Thanos) -> None:
    shown = thanos("prune", "--help").out
    groups = re.findall(r"^([A-Z][\w ]+):$", shown, re.MULTILINE)
    assert groups == [
        "Arguments",
        "Result",
        "Layers and patterns",
        "Method",
        "Text",
        "Run",
        "Options",
    ]
    assert shown.partition("\nOptions:\n")[2].split()[:2] == ["-h,", "--help"]  # and no other
    for heading, option in (("Text", "--nsamples"), ("Result", "--eval"), ("Method", "--refit")):
        assert f"  {option}" in shown.partition(f"\n{heading}:\n")[2].partition("\n\n")[0]


def test_the_version_names_what_computes_and_the_cache(
    thanos: Thanos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THANOS_CACHE", "/somewhere/else")
    first, second, third = thanos("--version").out.splitlines()
    assert re.fullmatch(r"thanos-pruning \d+\.\d+\.\d+, specification \d+\.\d+", first)
    assert re.fullmatch(r"Python 3\S+, torch \S+, transformers \S+", second)
    assert third == "Downloads: /somewhere/else (THANOS_CACHE moves it)"


WRONG = {
    "no pattern": (("prune",), "give a pattern such as 2:4, or a --recipe"),
    "no folder": (("prune", "--pattern", "2:4"), "give a folder, or say --dry-run"),
    "a command": (("prun",), "No such command 'prun'. Did you mean 'prune'?"),
    "a command of bench": (("bench", "spee"), "Did you mean 'speed'?"),
    "an option": (("prune", "--patern", "2:4"), "No such option: --patern.*--pattern"),
    "no argument": (("inspect",), "Missing argument 'folder'"),
    "no option": (("pack", "x"), "Missing option '--out'"),
    "no number": (("prune", "--nsamples", "many"), "--nsamples.*integer"),
    "a json file": (("prune", "--pattern", "2:4", "--json", "/no/where"), "cannot write to"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_command_line_is_explained(thanos: Thanos, case: str) -> None:
    words, message = WRONG[case]
    done = thanos(*words)
    assert done.status == 2
    assert re.search(message, " ".join(done.err.split())), done.err
    assert "--help' for help" in done.err


@pytest.mark.parametrize("command", [("inspect",), ("pack", "--out", "x")])
def test_a_folder_that_is_not_there(thanos: Thanos, command: tuple[str, ...]) -> None:
    done = thanos(command[0], "/no/where", *command[1:])
    assert (done.status, done.err.count("\n") <= 1) == (1, True)
    assert "/no/where" in done.err
