"""Which operations each stage of each method is made of: the terms of the cost model."""

from functools import cache

from reference.patterns import SemiStructured, Structured, Unstructured, parse_pattern

STAGES = ("prepare", "factor", "masks", "solve", "update", "refit")
SOLVER = "solve: joint"  # whose time depends on the steps that it takes
_FIXED = ("blocks", "constant")
_CERTIFICATE = ("b³ / threads", "c b² / threads", "c b", "b²", "constant")


@cache
def stages_of(method: str, pattern: str, refit_steps: int) -> tuple[str, ...]:
    """The stages that take time, in their order."""
    zeroing = method in ("magnitude", "wanda")
    chosen_on_the_way = method == "sparsegpt" and isinstance(parse_pattern(pattern), SemiStructured)
    left_out = {"solve"} if zeroing else {"masks"} if chosen_on_the_way else set()
    refit = set() if refit_steps else {"refit"}
    return tuple(each for each in STAGES if each not in left_out | refit)


@cache
def needs_inverse(method: str, pattern: str) -> bool:
    """Whether U is made: layers that read one input share it, and it takes memory of its own."""
    joint = method == "thanos" and isinstance(parse_pattern(pattern), Structured)
    return method in ("thanos", "sparsegpt") and not joint


@cache
def law(stage: str, method: str, pattern: str) -> tuple[str, tuple[str, ...]]:
    """The name of a stage's law, and its terms. Stages that do the same share one law."""
    asked = parse_pattern(pattern)
    structured = method == "thanos" and isinstance(asked, Structured)
    if stage == "prepare":
        return "prepare", ("c b", "b²", "constant")
    if stage == "refit":
        return "refit", ("b³", "c b²", "refit products", "refit passes", "b²", "constant")
    if stage == "factor":
        # LAPACK's and the triangle's small parts: their number grows with the columns.
        kind = "triangle and its inverse" if needs_inverse(method, pattern) else "triangle"
        return f"factor: {kind}", ("b³", "b²", "columns", "constant")
    if stage == "masks":
        looking = method == "thanos" and isinstance(asked, Unstructured)
        terms = ("c b", *_FIXED)
        return f"masks: {method} {_family(pattern)}", ("looks", *terms) if looking else terms
    if stage == "solve":
        if method == "sparsegpt":
            kind = "choosing" if isinstance(asked, SemiStructured) else "chosen"
            return f"solve: column by column, {kind}", ("sweeps", "c b", "columns", "constant")
        if structured:
            return "solve: least squares", ("least squares", "c b", "columns", "constant")
        return SOLVER, ("steps", "passes", "within", "systems", "c b", *_FIXED)
    if method in ("magnitude", "wanda"):
        return "update: losses only", ("c b²", "c b", "b²", *_FIXED)
    if structured:
        return "update: none", ("c b", "b²", "constant")
    return f"update: {method}", ("trailing", "c b", "b²", *_FIXED)


@cache
def certificate_law(method: str, pattern: str, refit_steps: int) -> tuple[str, tuple[str, ...]]:
    """The same for the certificate of a layer."""
    name = f"certificate: {method} {_family(pattern)}" + (" with refit" if refit_steps else "")
    if method == "thanos" and isinstance(parse_pattern(pattern), Unstructured):
        choosing = ("trailing / threads", "spreads", "lengths", "looks", "blocks")
        return name, (*choosing, *_CERTIFICATE)
    return name, _CERTIFICATE


@cache
def memory_law(method: str, pattern: str, refit_steps: int) -> tuple[str, tuple[str, ...]]:
    """The same for the most bytes in use beyond W and G, the result included."""
    name = f"memory: {method} {_family(pattern)}" + (" with refit" if refit_steps else "")
    return name, ("c b", "b²", "c B", "last block²", "part", "constant")


# Of the solver, on the made inputs of this study. What later columns can make up for is easy: a
# block takes few steps while little of what is left is its own. The last block, behind which
# nothing is left, takes several times as many here; on real layers, a quarter more.
STEPS_LAW = ("steps of a block", ("constant", "width / rest"))
LAST_STEPS_LAW = ("steps of the last block", ("constant", "last block / b"))
GRAM_LAW = ("gram", ("gram products", "b²", "tokens b", "constant"))
PASS_LAW = ("pass", ("tokens weights", "tokens² b", "tokens widths", "constant"))


def _family(pattern: str) -> str:
    asked = parse_pattern(pattern)
    if isinstance(asked, Unstructured):
        return "unstructured"
    return "structured" if isinstance(asked, Structured) else pattern
