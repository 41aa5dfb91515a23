"""The verdict on a pruned checkpoint: its layers, its other tensors and its other files."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reference.threads import thread_count
from thanos_torch.certifying.layers import GramReader, Judged, judge_again
from thanos_torch.certifying.original import (
    FileComparison,
    Original,
    TensorComparison,
    check_index,
    compare_files,
    same_tensors,
)
from thanos_torch.certifying.provenance import Asked, Provenance
from thanos_torch.checkpoint.record import FAILED, PASSED, Judge, together
from thanos_torch.checkpoint.shards import Tensors
from thanos_torch.pruning.plan import default_judge, matching
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.threads import blas_threads

SMALL = 2**22  # weights of a layer; a certificate of more takes all cores by itself


@dataclass(frozen=True)
class CheckpointVerdict:
    """The verdict on a pruned checkpoint.

    judged   the layers that were to be judged, each with its verdict
    tensors  the comparison of all other tensors with the original
    files    the comparison of all other files with the original
    """

    provenance: Provenance
    judged: list[Judged]
    tensors: TensorComparison
    files: FileComparison

    @property
    def not_as_before(self) -> dict[str, str]:
        """Tensors and files that changed though nobody asked for that: by name, how."""
        return self.tensors.found | self.files.found

    @property
    def verdict(self) -> str:
        """All layers' verdicts together; FAILED if anything else changed or none was judged."""
        if self.not_as_before or not self.judged:
            return FAILED
        return together(layer.verdict for layer in self.judged)

    @property
    def seconds(self) -> float:
        """Time that all certificates took."""
        done = (layer.certificate for layer in self.judged)
        return sum(float(certificate["seconds"]) for certificate in done if certificate)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "provenance": self.provenance.as_dict(),
            "passed": self.verdict == PASSED,
            "verdict": self.verdict,
            "seconds": self.seconds,
            "not_as_before": self.not_as_before,
            "by_design": self.files.by_design,
            "not_judged": self.tensors.unjudged,
            "layers": [layer.as_dict() for layer in self.judged],
        }


@checked()
def judge_checkpoint(
    original: Original,
    folder: Path | str,
    asked: Asked,
    gram: Path | str,
    judge: Judge = default_judge,
    *,
    include: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> CheckpointVerdict:
    """Judge the layers of a pruned checkpoint, and compare everything else with the original.

    folder   of the pruned checkpoint
    asked    which layers were to be pruned, and how
    gram     folder or file of the Gram matrices, as of `GramReader`
    judge    `verification.certify` if none is named
    include  globs on layer names: no others are judged; empty means all that were to be pruned

    Raises ValueError if a folder cannot be read at all. Problems of a layer, a tensor or a file are
    part of the verdict.
    """
    folder, gram = Path(folder), Path(gram)
    pruned, grams = Tensors(folder), GramReader(gram)
    chosen = list(asked.options)
    if include:
        chosen = [n for glob in include for n in matching(glob, list(asked.options), "--include")]
    names = list(dict.fromkeys(chosen))
    largest = max((original.layers[n].weights for n in names if n in original.layers), default=0)

    def judged_again(name: str) -> Judged:
        return judge_again(name, asked.options[name], original, pruned, grams, judge, asked.dtype)

    judged: list[Judged] = []
    # Small layers leave a core idle between their products, so several are judged at one time.
    # They share one BLAS limit: if limits overlapped, the last to end would restore another's.
    side_by_side = largest <= SMALL
    limit = blas_threads(0) if side_by_side else nullcontext()
    with ThreadPoolExecutor(thread_count()) as pool, limit:
        found = (pool.map if side_by_side else map)(judged_again, names)
        try:
            for number, name in enumerate(names):
                if progress:
                    progress(name, number, len(names))
                judged.append(next(found))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # else all layers are judged first
            raise
    skipped = asked.options.keys() - set(chosen)
    tensors = same_tensors(original, pruned, set(chosen), skipped, asked.dtype)
    weights = original.tensors.files.values(), pruned.files.values()
    files = compare_files(original.folder, folder, weights, asked.dtype)
    files.found |= check_index(pruned)
    return CheckpointVerdict(Provenance(asked, original, gram, judged), judged, tensors, files)
