"""The pages of `thanos bench cost` and `thanos bench inference`."""

from verification.benchmarks.inference.plots import draw_inference, draw_sizes
from verification.benchmarks.pages.cost import page as cost_page
from verification.benchmarks.pages.inference import page as inference_page
from verification.benchmarks.pages.page import Page
from verification.benchmarks.pages.size import page as size_page
from verification.benchmarks.performance.plots import draw_cost

COST = Page(
    "cost",
    "What does pruning cost, and what would it for Llama 3?",
    ("cost",),
    lambda sources: cost_page(sources["cost"]),
    lambda sources, folder: draw_cost(sources["cost"], folder),
)
INFERENCE = Page(
    "inference",
    "How fast is the pruned model, and how much memory does it take?",
    ("inference",),
    lambda sources: inference_page(sources["inference"]),
    lambda sources, folder: draw_inference(sources["inference"], folder / "inference.png"),
)
SIZE = Page(
    "size",
    "How much smaller is the pruned model?",
    ("inference",),
    lambda sources: size_page(sources["inference"]),
    lambda sources, folder: draw_sizes(sources["inference"], folder / "size.png"),
)
