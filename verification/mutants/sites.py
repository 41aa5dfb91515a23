"""The places where a module may be mutated: its code, but no texts and no types."""

import ast
from collections.abc import Iterator

# Types, spelled as values.
_TYPE_NAMES = ("TypeAlias",)


def sites(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Every node that may be mutated, with its function, "" at the top level.

    Left out are docstrings, annotations, type aliases, imports, decorators, `__all__`, f-strings,
    and the exception of a `raise` (but not the statement itself).
    """
    yield from _below("", tree)


def _below(function: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for child in _children(node):
        inside = function
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inside = f"{function}.{child.name}".lstrip(".")
        yield inside, child
        if not isinstance(child, ast.Raise):
            yield from _below(inside, child)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
        # The mutator `default` handles the defaults of a function.
        yield from (statement for statement in node.body if not _is_left_out(statement))
    elif isinstance(node, ast.AnnAssign):
        if node.value is not None and ast.unparse(node.annotation) not in _TYPE_NAMES:
            yield node.value
    else:
        yield from (child for child in ast.iter_child_nodes(node) if not _is_left_out(child))


def _is_left_out(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)  # a docstring
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) == "__all__"
    return isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr | ast.expr_context)
