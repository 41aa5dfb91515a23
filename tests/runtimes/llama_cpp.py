"""A pruned model in llama.cpp: `python -m tests.runtimes.llama_cpp --out FILE`.

SmolLM2-135M is pruned to 2:4, converted to GGUF in F16, and run by a llama.cpp that others have
compiled. Every removed weight must be zero at its place in the file, every other one must be the
checkpoint's, and the losses of all tokens must be ours up to rounding. The dense model is the
control. Two mistakes are planted, which must be seen. Needs Node.js and a package index.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from reference.threads import cores
from tests.runtimes.gguf_weights import Zeros, count_zeros
from tests.runtimes.losses import Agreement, our_losses
from tests.runtimes.tools import CONVERTER, RUNTIME, VERSION, ToolMissingError, Tools, install
from tests.stress.program import THANOS
from thanos_torch.models import (
    DEFAULT_DATASET,
    DEFAULT_MODEL,
    LoadedModel,
    evaluation_windows,
    load_model,
    perplexity,
    read_masks,
)
from thanos_torch.runtime.downloads import cache_folder
from verification.benchmarks.environment import environment
from verification.benchmarks.results import write_results

PATTERN = "2:4"
SEQLEN = 256
WINDOWS = 4
PRUNE = ["--pattern", PATTERN, "--nsamples", "8", "--seqlen", str(SEQLEN)]
SCORE = Path(__file__).with_name("score.mjs")
# What tokenizers may disagree on: spaces, digits, scripts, joined emoji, and line ends.
ODD = (
    "  Two  spaces,\ttabs\n\n\n and 1234567 и «кавычки» 漢字 e\u0301 👩\u200d👩\u200d👧"
    " it's don't\r\n def f(x):\n    return x"
)
# Transformers does not read from a GGUF file, as which the model comes, that its tokenizer parts
# digits from spaces before them. llama.cpp knows it by the tokenizer's name.
KNOWN_TO_DIFFER = "\n\n\n 1"
UNPERMUTED = "from conversion.llama import LlamaModel; LlamaModel.undo_permute = False"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: the converted model is the pruned one, and planted mistakes were seen."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python -m tests.runtimes.llama_cpp", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="results, as JSON")
    out = parser.parse_args(given).out
    origin = environment()  # files may change during the run
    try:
        tools = install(cache_folder() / "llama-cpp")
    except ToolMissingError as error:
        print(f"llama.cpp was not run: {error}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        found = compare(tools, Path(folder))
    results = {
        "command": " ".join(["python -m tests.runtimes.llama_cpp", *given]),
        **origin,
        "converter": CONVERTER,
        "runtime": f"{RUNTIME} {VERSION}",
        "model": DEFAULT_MODEL,
        "pattern": PATTERN,
        **found,
    }
    write_results(out, results, indent=1)
    print(f"llama.cpp {found['llama.cpp']}: {'passed' if found['passed'] else 'FAILED'}")
    return 0 if found["passed"] else 1


def compare(tools: Tools, folder: Path) -> dict[str, Any]:
    """Prune, convert, run and compare, in an empty folder; JSON-able."""
    loaded = load_model(DEFAULT_MODEL)
    dense, pruned = folder / "dense", folder / "pruned"
    loaded.model.save_pretrained(dense)
    loaded.tokenizer.save_pretrained(dense)
    command = [*THANOS, "prune", str(dense), "--out", str(pruned), *PRUNE]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    text = evaluation_windows(loaded.tokenizer, DEFAULT_DATASET, seqlen=SEQLEN, limit=WINDOWS)
    windows = text.ids
    texts = [*loaded.tokenizer.batch_decode(windows), ODD, KNOWN_TO_DIFFER]

    files = {name: folder / f"{name}.gguf" for name in ("dense", "pruned", "unpermuted")}
    tools.convert(dense, files["dense"])
    tools.convert(pruned, files["pruned"])
    tools.convert(pruned, files["unpermuted"], first=UNPERMUTED)
    answers = {name: run(tools, file, windows, texts) for name, file in files.items()}
    zeros = count_all_zeros(files, pruned)
    control, pair = Pair(loaded, windows), Pair(load_model(str(pruned)), windows)
    judged = {
        "dense": control.judged(answers["dense"]),
        "pruned": pair.judged(answers["pruned"]),
    }
    mistakes = {
        "rows of queries and keys not reordered": "unpermuted",
        "the dense weights converted": "dense",
    }
    seen = {
        mistake: {
            "by_weights": not zeros[name].right,
            "by_losses": not pair.agreement(answers[name]).right,
        }
        for mistake, name in mistakes.items()
    }
    own = [loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    theirs = answers["pruned"]["ids"]
    same_ids = theirs[:-1] == own[:-1]
    right = same_ids and zeros["pruned"].right and all(each["right"] for each in judged.values())
    return {
        "passed": right and all(all(each.values()) for each in seen.values()),
        "llama.cpp": answers["pruned"]["release"],
        "instructions": answers["pruned"]["system"],
        "windows": WINDOWS,
        "seqlen": SEQLEN,
        "same_token_ids": same_ids,
        "known_to_differ": {"text": KNOWN_TO_DIFFER, "ours": own[-1], "llama.cpp": theirs[-1]},
        "zeros": asdict(zeros["pruned"]),
        "models": judged,
        "mistakes_seen": seen,
    }


def count_all_zeros(files: dict[str, Path], pruned: Path) -> dict[str, Zeros]:
    """Compare every GGUF file with the weights and masks of a pruned checkpoint."""
    masks = {name: mask.unpacked().numpy() for name, mask in read_masks(pruned).items()}
    model = load_model(str(pruned)).model
    weights = {name: model.get_submodule(name).weight.detach() for name in masks}
    return {name: count_zeros(file, weights, masks) for name, file in files.items()}


class Pair:
    """Our losses of a model, to be compared with those of llama.cpp."""

    def __init__(self, loaded: LoadedModel, windows: Tensor) -> None:
        self.perplexity = perplexity(loaded.model, windows).perplexity
        self.ours = our_losses(loaded.model, windows)

    def agreement(self, answer: dict[str, Any]) -> Agreement:
        """Compare with an answer of `run`."""
        return Agreement.of(np.array(answer["losses"]), self.ours)

    def judged(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Perplexities and agreement; JSON-able."""
        agreement = self.agreement(answer)
        return {
            "right": agreement.right,
            "perplexity_thanos_eval": self.perplexity,
            "perplexity_f16_weights": math.exp(self.ours.weights.mean()),
            "perplexity_llama_cpp": math.exp(np.mean(answer["losses"])),
            "noise": self.ours.noise,
            **asdict(agreement),
        }


def run(tools: Tools, model: Path, windows: Tensor, texts: list[str]) -> dict[str, Any]:
    """Losses of all windows' tokens by llama.cpp, and the ids of texts: as score.mjs has them."""
    asked, answer = model.with_suffix(".asked.json"), model.with_suffix(".answer.json")
    content = {"windows": windows.tolist(), "texts": texts, "threads": cores()}
    asked.write_text(json.dumps(content))
    tools.node(SCORE, model, asked, answer)
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


if __name__ == "__main__":
    raise SystemExit(main())
