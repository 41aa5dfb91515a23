"""The mutators: small mistakes that could stand in the place of a node.

Every mutator takes a node and yields (kind, node to replace, replacement); the replacement `None`
removes a statement.
"""

import ast
from collections.abc import Callable, Iterator
from copy import deepcopy

from verification.mutants.tables import (
    COMPARISONS,
    DROPPED_FUNCTIONS,
    DROPPED_METHODS,
    MISTAKEN,
    OPERATORS,
    RETURNS,
    SWAPPED,
)

Change = tuple[str, ast.AST, ast.AST | None]


def changes(node: ast.AST) -> Iterator[Change]:
    """All mutations of one node."""
    for mutator in MUTATORS:
        yield from mutator(node)


def comparison(node: ast.AST) -> Iterator[Change]:
    """< to <= and >=, == to !=, ..."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                mutant = deepcopy(node)
                mutant.ops[place] = other()
                yield "comparison", node, mutant


def arithmetic(node: ast.AST) -> Iterator[Change]:
    """+ to -, * to /, powers, minus and ~ dropped."""
    if isinstance(node, ast.BinOp):
        other = OPERATORS.get(type(node.op))
        if other:
            yield "arithmetic", node, ast.BinOp(node.left, other(), node.right)
        if isinstance(node.op, ast.Pow):
            yield "arithmetic", node, node.left
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert):
        yield "arithmetic", node, node.operand
    if isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
        other = OPERATORS[type(node.op)]
        yield "arithmetic", node, ast.AugAssign(node.target, other(), node.value)


def constant(node: ast.AST) -> Iterator[Change]:
    """Numbers: n to n + 1, 0.0 and 1.0 swapped, others halved and doubled; True and False."""
    if not isinstance(node, ast.Constant):
        return
    value = node.value
    if isinstance(value, bool):
        yield "constant", node, ast.Constant(not value)
    elif isinstance(value, int):
        yield "constant", node, ast.Constant(value + 1)
    elif isinstance(value, float):
        for other in (1.0 - value,) if value in (0.0, 1.0) else (value / 2, value * 2):
            yield "constant", node, ast.Constant(other)


def default(node: ast.AST) -> Iterator[Change]:
    """Another default of an argument."""
    if isinstance(node, ast.FunctionDef):
        for value in (*node.args.defaults, *node.args.kw_defaults):
            for _, target, other in constant(value) if value else ():
                yield "default", target, other


def condition(node: ast.AST) -> Iterator[Change]:
    """A condition negated; comparisons have mutators of their own."""
    tests: list[ast.expr] = []
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        tests = [node.test]
    elif isinstance(node, ast.comprehension):
        tests = node.ifs
    for test in tests:
        if not isinstance(test, ast.Compare):
            yield "condition", test, ast.UnaryOp(ast.Not(), test)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "condition", node, node.operand


def logic(node: ast.AST) -> Iterator[Change]:
    """`and` to `or`, and either side alone."""
    if isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "logic", node, ast.BoolOp(other, node.values)
        for place in range(len(node.values)):
            rest = [value for at, value in enumerate(node.values) if at != place]
            yield "logic", node, rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def border(node: ast.AST) -> Iterator[Change]:
    """Borders of slices and ranges off by one."""
    if isinstance(node, ast.Slice):
        for name, missing in (("lower", 1), ("upper", -1)):
            found = getattr(node, name)
            others = [_plus(found, 1), _plus(found, -1)] if found else [ast.Constant(missing)]
            for other in others:
                mutant = deepcopy(node)
                setattr(mutant, name, other)
                yield "border", node, mutant
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("slice", "range"):
        for argument in node.args:
            for step in (1, -1):
                yield "border", argument, _plus(argument, step)


def index(node: ast.AST) -> Iterator[Change]:
    """An index off by one."""
    if not isinstance(node, ast.Subscript):
        return
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    for part in parts:
        if isinstance(part, ast.Constant) and isinstance(part.value, int):
            yield "index", part, ast.Constant(part.value - 1)
        elif isinstance(part, ast.Name | ast.UnaryOp):
            yield "index", part, _plus(part, 1)
    if len(parts) == 2 and not any(isinstance(part, ast.Slice) for part in parts):
        yield "index", node.slice, ast.Tuple(parts[::-1], ast.Load())


def function(node: ast.AST) -> Iterator[Change]:
    """Calls: floor to ceil, min to max, sum to mean; abs, sqrt or .T dropped; an axis, a sort."""
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in SWAPPED:
            yield "function", node, _renamed(node, SWAPPED[name])
        if name == "T" and isinstance(node, ast.Attribute):
            yield "function", node, node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        library = ast.unparse(node.func.value) in ("np", "np.linalg")
        if library and node.func.attr in DROPPED_FUNCTIONS:
            yield "function", node, node.args[0]
        if not library and node.func.attr in DROPPED_METHODS:
            yield "function", node, node.func.value
        if library and node.func.attr in ("where", "outer"):
            order = [*node.args[:-2], node.args[-1], node.args[-2]]
            yield "function", node, ast.Call(node.func, order, node.keywords)
    if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
        if node.arg == "axis" and isinstance(node.value.value, int):
            yield "function", node.value, ast.Constant(1 - node.value.value)
        if node.arg == "kind":
            yield "function", node.value, ast.Constant("quicksort")


def name(node: ast.AST) -> Iterator[Change]:
    """One variable for another; m for n after a dot as well."""
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
        found = node.id if isinstance(node, ast.Name) else node.attr
        if found in MISTAKEN:
            yield "name", node, _renamed(node, MISTAKEN[found])


def deletion(node: ast.AST) -> Iterator[Change]:
    """A statement left out that changes a variable, calls, raises or skips."""
    plain = isinstance(node, ast.AugAssign | ast.Continue | ast.Raise)
    call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    part = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)
    if plain or call or part:
        yield "deletion", node, None
    if isinstance(node, ast.FunctionDef):
        known = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
        for statement in _assignments(node.body):
            names = {name.id for name in ast.walk(statement) if isinstance(name, ast.Name)
                     and isinstance(name.ctx, ast.Store)}  # fmt: skip
            if names and names <= known:
                yield "deletion", statement, None
            known |= names


def _assignments(body: list[ast.stmt]) -> Iterator[ast.Assign | ast.AnnAssign]:
    """All assignments from top to bottom, also in loops and branches."""
    for statement in body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            yield statement
        if isinstance(statement, ast.For | ast.While | ast.If):
            yield from _assignments([*statement.body, *statement.orelse])


def returned(node: ast.AST) -> Iterator[Change]:
    """Another number, sign, mask or index returned, or one of another precision."""
    if isinstance(node, ast.FunctionDef) and node.returns is not None:
        forms = RETURNS.get(ast.unparse(node.returns), ())
        for statement in ast.walk(node) if forms else ():
            if isinstance(statement, ast.Return) and statement.value is not None:
                value = ast.unparse(statement.value)
                for form in forms:
                    other = ast.parse(form.format(value), mode="eval").body
                    yield "return", statement.value, other


def _plus(node: ast.expr, step: int) -> ast.expr:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return ast.Constant(node.value + step)
    return ast.BinOp(node, ast.Add() if step > 0 else ast.Sub(), ast.Constant(1))


def _renamed(node: ast.Name | ast.Attribute, name: str) -> ast.expr:
    if isinstance(node, ast.Name):
        return ast.Name(name, ast.Load())
    return ast.Attribute(node.value, name, ast.Load())


MUTATORS: tuple[Callable[[ast.AST], Iterator[Change]], ...] = (
    comparison, arithmetic, constant, default, condition, logic, border, index, function,
    name, deletion, returned,
)  # fmt: skip
