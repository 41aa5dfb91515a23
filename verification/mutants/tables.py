"""Data of the mutators: what is easily mistaken for what."""

import ast

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.FloorDiv: ast.Mod,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
# Names of functions and methods; both ways.
SWAPPED = {
    one: other
    for pair in (
        ("floor", "ceil"), ("min", "max"), ("sum", "mean"), ("any", "all"),
        ("argmin", "argmax"), ("zeros", "ones"), ("float64", "float32"),
        ("joint_update", "sequential_update"),
        ("smallest_of_each_row", "smallest"),
    )
    for one, other in (pair, pair[::-1])
}  # fmt: skip
# Names of matrices, sizes and borders that stand for one another easily; both ways.
MISTAKEN = {
    one: other
    for pair in (
        ("G", "H"), ("W", "original"), ("c", "b"), ("j1", "j2"), ("n", "m"), ("W_J", "updated"),
        ("G_JJ", "H_JJ"), ("S", "first_scores"), ("values", "groups"), ("rows", "columns"),
        ("j", "j1"),
    )
    for one, other in (pair, pair[::-1])
}  # fmt: skip
# f(x, ...) becomes x, and x.f(...) becomes x.
DROPPED_FUNCTIONS = ("abs", "sqrt", "sort")
DROPPED_METHODS = ("copy", "astype", "mean", "sum")
RETURNS = {  # by the annotation of the function
    "int": ("({}) + 1",),
    "float": ("2 * ({})",),
    "Array": ("-({})", "np.float64(np.float32({}))"),
    "Mask": ("~({})",),
    "Indices": ("({})[1:]",),
    "Fraction": ("({}) / 2", "Fraction(float({}))"),
}
