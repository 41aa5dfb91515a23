"""The cells of `thanos bench cost`: layers, Gram matrices and passes, fitted and held-out sizes."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from reference.patterns import parse_pattern
from thanos_torch.network.replay import BATCH_TOKENS
from thanos_torch.pruning.plan import LayerOptions

UNSTRUCTURED, SEMI, STRUCTURED = PATTERNS = ("unstructured:0.5", "2:4", "structured:0.3")
METHODS = ("magnitude", "wanda", "sparsegpt", "thanos")
BLOCK_SIZE, REFIT_STEPS = 128, 10
Shape = tuple[int, int]
# The cost model is fitted to these (rows, columns): squares; lines through the middle square on
# which one side grows alone; a ragged last block; few rows of the widest held-out layer's columns;
# and sizes that are no powers of two, as the rows of powers of two share places in the caches.
FITTED = (
    *((256, 256), (512, 512), (1024, 1024), (2048, 2048)),
    *((1024, 256), (1024, 512), (1024, 2048)),
    *((256, 1024), (512, 1024), (2048, 1024)),
    *((512, 576), (512, 4096), (640, 1408), (1408, 640)),
)
# The cost model is checked on these: sizes in between, shapes of real layers, and layers of up to
# four times as many weights.
HELD_OUT = (
    *((768, 768), (1536, 576), (576, 1536), (1536, 1536), (1280, 2560), (896, 2304)),
    *((1024, 4096), (4096, 1024), (3072, 3072), (4096, 4096)),
)
LARGE = 8 * 2**20  # layers of more weights are measured for fewer methods


@dataclass(frozen=True)
class LayerCell:
    """Pruning a layer (rows, columns) by one method."""

    rows: int
    columns: int
    method: str
    pattern: str
    held_out: bool = False
    block_size: int = BLOCK_SIZE
    refit_steps: int = 0
    kind: str = "layer"

    @property
    def options(self) -> LayerOptions:
        """As `prune_model` takes them."""
        pattern = parse_pattern(self.pattern)
        return LayerOptions(pattern, self.method, self.block_size, refit_steps=self.refit_steps)


@dataclass(frozen=True)
class GramCell:
    """Adding one batch of `tokens` tokens to a Gram matrix of `columns` columns."""

    columns: int
    tokens: int
    held_out: bool
    kind: str = "gram"


@dataclass(frozen=True)
class PassCell:
    """A forward pass of one Llama decoder block over one window of `tokens` tokens."""

    hidden: int
    intermediate: int
    tokens: int
    held_out: bool
    kind: str = "pass"


@dataclass(frozen=True)
class ModelCell:
    """Pruning SmolLM2-135M with calibration: every `every`-th decoder block."""

    every: int
    kind: str = "model"


Cell = LayerCell | GramCell | PassCell | ModelCell


def key(cell: Cell) -> str:
    """All fields of a cell as text, which no other cell has."""
    return " ".join(f"{name}={value}" for name, value in asdict(cell).items())


def full() -> list[Cell]:
    """The standard grid. Cells of one shape follow each other, so that its layer is made once."""
    return [*_passes(), *_grams(), *_by_size(FITTED, HELD_OUT), ModelCell(every=10)]


def quick() -> list[Cell]:
    """A grid of small sizes, to see that everything works; too small to predict from."""
    fitted = ((128, 128), (256, 256), (512, 512), (128, 512), (256, 512), (512, 128))
    held_out = ((384, 384), (512, 768), (768, 768))
    gram = [GramCell(b, tokens, b == 384) for b in (256, 384, 512) for tokens in (512, 1024, 2048)]
    passes = [PassCell(h, 3 * h, 256, h == 384) for h in (128, 256, 384, 512)]
    return [*passes, *gram, *_by_size(fitted, held_out)]


PROFILES = {"standard": full, "quick": quick}


def _by_size(fitted: tuple[Shape, ...], held_out: tuple[Shape, ...]) -> list[Cell]:
    """Mix held-out and fitted sizes, so that a machine that slows down affects both alike."""
    shapes = sorted([*fitted, *held_out], key=lambda shape: (shape[0] * shape[1], shape))
    return [cell for shape in shapes for cell in _layers(shape, shape in held_out)]


def _layers(shape: Shape, held_out: bool) -> Iterator[Cell]:
    large = shape[0] * shape[1] > LARGE
    for pattern in PATTERNS:
        for method in METHODS:
            if not large or method in ("thanos", "sparsegpt") or pattern == UNSTRUCTURED:
                yield LayerCell(*shape, method, pattern, held_out)
    yield LayerCell(*shape, "thanos", UNSTRUCTURED, held_out, refit_steps=REFIT_STEPS)


def _grams() -> list[GramCell]:
    """Gram matrices by operations: held-out and fitted ones mixed, as for layers."""
    batch = BATCH_TOKENS
    fitted = [(columns, batch) for columns in (256, 512, 640, 1024, 1408, 2048)]
    fitted += [(1024, tokens) for tokens in (256, 512, 1024)]
    held_out = [(768, batch), (896, batch), (1536, 768), (1536, batch), (4096, batch)]
    return [
        GramCell(columns, tokens, (columns, tokens) in held_out)
        for columns, tokens in sorted([*fitted, *held_out], key=lambda at: at[0] ** 2 * at[1])
    ]


def _passes() -> Iterator[Cell]:
    for hidden in (256, 512, 1024, 1536):
        for tokens in (512, BATCH_TOKENS):
            yield PassCell(hidden, 7 * hidden // 2, tokens, False)
    for hidden, intermediate, tokens in ((768, 2048, 1024), (2048, 8192, BATCH_TOKENS)):
        yield PassCell(hidden, intermediate, tokens, True)
