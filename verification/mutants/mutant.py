"""Makes the mutants of a module from its source."""

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass

from verification.mutants.mutators import changes
from verification.mutants.sites import sites

# Expressions that may need brackets in the place of others.
_LOOSE = (ast.BinOp, ast.BoolOp, ast.Compare, ast.UnaryOp)


@dataclass(frozen=True)
class Mutant:
    """One mistake in one module.

    id        module:line:column:kind, with a number if a place has several of a kind
    kind      the mutator
    function  function with its class, or "" at the top level
    before    the changed lines, joined
    after     the same lines with the mistake
    source    the whole module with the mistake
    """

    id: str
    module: str
    kind: str
    function: str
    before: str
    after: str
    source: str


def mutants_of(module: str, source: str) -> Iterator[Mutant]:
    """All mutants of a module; each parses, and no two are the same code."""
    tree = ast.parse(source)
    seen = {ast.dump(tree)}
    known = {*dir(builtins), *_names(tree)}
    numbers: dict[str, int] = {}
    for function, node in sites(tree):
        for kind, target, replacement in changes(node):
            if not set(_names(replacement)) <= known:
                continue
            mutated, code = _replaced(source, target, replacement)
            if code in seen:
                continue
            seen.add(code)
            place = f"{module}:{target.lineno}:{target.col_offset}:{kind}"  # type: ignore[attr-defined]
            numbers[place] = numbers.get(place, 0) + 1
            name = place if numbers[place] == 1 else f"{place}.{numbers[place]}"
            before, after = _lines(source, mutated, target)
            yield Mutant(name, module, kind, function, before, after, mutated)


def _names(node: ast.AST | None) -> Iterator[str]:
    """All names that a piece of code uses or imports."""
    for part in ast.walk(node) if node else ():
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.alias | ast.FunctionDef):
            yield part.name


def _replaced(source: str, target: ast.AST, replacement: ast.AST | None) -> tuple[str, str]:
    """The source with a node replaced, and its syntax tree.

    The replacement is in brackets if it would otherwise be parsed differently.
    """
    start, end = _offsets(source, target)
    text = "pass" if replacement is None else ast.unparse(replacement)
    if isinstance(replacement, ast.Tuple):
        text = text[1:-1]
    plain, bracketed = (source[:start] + part + source[end:] for part in (text, f"({text})"))
    if not isinstance(replacement, _LOOSE):
        return plain, ast.dump(ast.parse(plain))
    wanted = ast.dump(ast.parse(bracketed))
    return (plain if ast.dump(ast.parse(plain)) == wanted else bracketed), wanted


def _offsets(source: str, node: ast.AST) -> tuple[int, int]:
    """Start and end of a node in characters; the syntax tree counts columns in bytes."""
    lines = source.splitlines(keepends=True)
    found = []
    for line, column in (
        (node.lineno, node.col_offset),  # type: ignore[attr-defined]
        (node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
    ):
        within = len(lines[line - 1].encode()[:column].decode())
        found.append(sum(map(len, lines[: line - 1])) + within)
    return found[0], found[1]


def _lines(source: str, mutated: str, target: ast.AST) -> tuple[str, str]:
    """The lines of a node in both sources, each joined to one line."""
    first, last = target.lineno - 1, target.end_lineno  # type: ignore[attr-defined]
    old, new = source.splitlines(), mutated.splitlines()
    return _joined(old[first:last]), _joined(new[first : last + len(new) - len(old)])


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)
