"""Records of a pruned model and its layers, their verdicts, and `thanos.json`, which holds them."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, Protocol, Self, TypedDict

from torch import Tensor

from reference.patterns import parse_pattern
from thanos_torch.checkpoint.masks import PackedMask, Place
from thanos_torch.checkpoint.shards import RECORD, inside
from thanos_torch.methods.result import Pruned
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.strangers import Count, Shape, printable, read_json, shown, typed

# The words of `verification.Certificate.verdict`.
PASSED, FAILED, NOT_DECIDABLE = "passed", "failed", "not decidable"
AS_ASKED = "dense, as asked"  # a layer that was to stay dense, and so has no certificate
Stored = Mapping[str, Any]  # a certificate as a JSON file holds it
# Share of the blocks' weights that may stay dense unasked; above it a run did less than asked.
TOLERATED = 0.1


def verdict_of(certificate: Stored | None) -> str:
    """A certificate's verdict: PASSED, NOT_DECIDABLE or FAILED. FAILED without a certificate."""
    if certificate is None:
        return FAILED
    if certificate["passed"] is True:
        return PASSED
    return NOT_DECIDABLE if certificate.get("verdict") == NOT_DECIDABLE else FAILED


def recorded(entry: Mapping[str, Any]) -> str:
    """The verdict in `thanos.json` on a layer or on the model; FAILED if it is unknown."""
    if entry.get("verified") is True:
        return PASSED
    return NOT_DECIDABLE if entry.get("verdict") == NOT_DECIDABLE else FAILED


def together(verdicts: Iterable[str]) -> str:
    """The joint verdict: FAILED if one is, else NOT_DECIDABLE if one is, else PASSED."""
    found = set(verdicts)
    return next((word for word in (FAILED, NOT_DECIDABLE) if word in found), PASSED)


def counted(layers: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """`count_verdicts` of layers in `thanos.json`."""
    return count_verdicts([recorded(layer) for layer in layers])


def count_verdicts(verdicts: Sequence[str]) -> tuple[str, str]:
    """How many passed, as "N of M", and ", K not decidable", or "" if every verdict is clear."""
    passed, undecided = verdicts.count(PASSED), verdicts.count(NOT_DECIDABLE)
    more = f", {undecided} {NOT_DECIDABLE}" if undecided else ""
    return f"{passed} of {len(verdicts)}", more


def reasons(certificate: Stored) -> str:
    """Why a certificate did not pass: its failed checks, or the open ones if none failed."""
    verdict = verdict_of(certificate)
    checks = certificate.get("checks", ())
    found = [check for check in checks if check.get("verdict") == verdict]
    return "; ".join(_reason(check, verdict) for check in found)


def _reason(check: Mapping[str, Any], verdict: str) -> str:
    value = float(check["value"])
    if verdict == NOT_DECIDABLE and not math.isfinite(value):
        return str(check["note"])
    more = check["note"] if verdict == NOT_DECIDABLE else check["where"] or check["note"]
    return f"{check['name']} {value:.3g} {more}".strip()


def worst(certificates: Iterable[Stored | None], check: str) -> float | None:
    """The largest value of a check in the certificates; NaN counts as largest, None if no value."""
    values = [
        float(each["value"])
        for certificate in certificates
        if certificate
        for each in certificate.get("checks", ())
        if each["name"] == check
    ]
    return max(values, key=lambda value: (math.isnan(value), value), default=None)


def share(part: int, whole: int) -> float:
    """A part of some weights as a share of the whole; 0 of nothing."""
    return part / whole if whole else 0.0


class LayerVerdict(Protocol):
    """What a judge returns; `verification.Certificate` is one."""

    def as_dict(self) -> dict[str, object]:
        """The verdict for a JSON file.

        "verdict" is one of "passed", "failed" and "not decidable", and "passed" whether it is the
        first of them.
        """


# `verification.certify` is one: (weight, gram, pruned_weight, pattern, **options). NumPy arrays in,
# or tensors if the layer is on a device.
Judge = Callable[..., LayerVerdict]


@dataclass(frozen=True)
class PrunedLayer:
    """A layer that was just pruned, in float32: what `on_layer` callbacks get.

    weight  (c, b), before
    gram    (b, b), the Gram matrix that it was pruned with
    pruned  the result, after the refit if one was asked for
    before_refit    (c, b), the weight before that refit; None if there was none
    """

    name: str
    weight: Tensor
    gram: Tensor
    pruned: Pruned
    before_refit: Tensor | None = None


@dataclass
class LayerRecord:
    """The result for one layer.

    name            as in the model, as `Layer.name`
    shape           (c, b)
    removed         weights removed, the count of the mask
    relative_error  tr(D G Dᵀ) / tr(W G Wᵀ), D = Ŵ − W, of the float32 result
    seconds         of pruning (and refitting) alone
    certificate     the judge's verdict on the float32 result; None if there was no judge
    stored_exactly  whether the model holds that result, rounded once to its dtype
    diagnostics     how the numbers were computed
    options         what was asked for: pattern, method, block_size, damping, refit_steps,
                    and ablation: the switches that are not as in the paper, if there are any
    left_dense      why the layer was not pruned; empty if it was
    asked_dense     whether that is what was asked for
    rank            of the process that pruned it, 0 if there was one
    stored          the `Place` of its weight in the checkpoint; None if that is not known
    """

    name: str
    shape: Shape
    removed: int = 0
    relative_error: float = 0.0
    seconds: float = 0.0
    certificate: dict[str, object] | None = None
    stored_exactly: bool = False
    diagnostics: dict[str, object] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    left_dense: str = ""
    asked_dense: bool = False
    rank: int = 0
    stored: dict[str, object] | None = None

    @property
    def weights(self) -> int:
        """How many weights the layer has, c b."""
        return self.shape[0] * self.shape[1]

    @property
    def sparsity(self) -> float:
        """Share of the layer's weights that were removed."""
        return self.removed / self.weights

    @property
    def pruned(self) -> bool:
        """Whether the layer was pruned."""
        return not self.left_dense

    @property
    def left_dense_unasked(self) -> bool:
        """Whether the layer was to be pruned and was not."""
        return bool(self.left_dense) and not self.asked_dense

    @property
    def verdict(self) -> str:
        """The judge's verdict; FAILED if the model does not hold what was judged. Or AS_ASKED."""
        if self.asked_dense:
            return AS_ASKED
        return verdict_of(self.certificate) if self.stored_exactly else FAILED

    @property
    def verified(self) -> bool:
        """Whether the layer was pruned, a judge passed it, and the model holds what was judged."""
        return self.verdict == PASSED

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        judged = {"verified": self.verified, "verdict": self.verdict}
        return {**asdict(self), "sparsity": self.sparsity, **judged}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `as_dict` wrote, also after a round trip through JSON.

        Raises ValueError for another type or place of a value, and for a layer that contradicts
        itself: more weights removed than it has, or another verdict than its certificate's.
        """
        layer = typed(stored, cls, "no record of a layer")
        problem = f"the record of {printable(layer.name)} is damaged"
        if layer.certificate is not None:
            _refuse_certificate(typed(layer.certificate, _Certificate, problem), problem)
        if layer.stored is not None:
            Place.from_dict(layer.stored)
        (rows, columns), options = layer.shape, layer.options
        if not 0 <= layer.removed <= rows * columns:
            raise ValueError(f"{problem}: {layer.removed} of {rows} x {columns} weights removed")
        if options:
            asked = typed(options, _Options, f"options of {printable(layer.name)}")
            parse_pattern(asked["pattern"]).check(rows, columns, asked["block_size"])
        said = recorded(typed(stored, _Said, problem))
        if said != layer.verdict and said != FAILED:
            raise ValueError(f"{problem}: it says {said}, its certificate {layer.verdict}")
        return layer


@dataclass
class RankShare:
    """What one of several processes did.

    host     the name of its machine
    batches  calibration batches that went through every block on it
    seconds  by stage, as in `ModelReport`; exchange includes waiting for others
    """

    host: str
    batches: int
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class ModelReport:
    """The result for a model.

    layers   one record for each layer of the decoder blocks, in the order of the model
    others   names of other matrices in the blocks or between them, never pruned: routers, say
    seconds  by stage: calibration, gram, pruning, errors, certificates
    masks    of the layers that were pruned; not part of `as_dict`
    ranks    what each of several processes did; empty if there was one
    block_weights  numbers in all parameters of the decoder blocks, biases and norms included
    unasked  those of `others` that nobody asked to leave alone, and how many weights each has
    """

    layers: list[LayerRecord]
    others: list[str]
    seconds: dict[str, float]
    masks: dict[str, PackedMask]
    ranks: list[RankShare] = field(default_factory=list)
    block_weights: int = 0
    unasked: Mapping[str, int] = field(default_factory=dict)

    def take(
        self,
        layers: Iterable[LayerRecord],
        seconds: Mapping[str, float],
        shares: Iterable[Mapping[str, float]],
    ) -> None:
        """Add layers that an earlier process pruned, and the time that it took, also by rank."""
        self.layers.extend(layers)
        for stage, spent in seconds.items():
            self.seconds[stage] += spent
        self.count(shares)

    def count(self, shares: Iterable[Mapping[str, float]]) -> None:
        """Add the time that every rank spent on a block."""
        for rank, share in zip(self.ranks, shares, strict=True):
            for stage, spent in share.items():
                rank.seconds[stage] = rank.seconds.get(stage, 0.0) + spent

    @property
    def verdict(self) -> str:
        """The verdicts on all layers, taken together."""
        return together(layer.verdict for layer in self.layers)

    @property
    def verified(self) -> bool:
        """Whether every layer that should be was pruned, certified, and stored as certified."""
        return self.verdict == PASSED

    @property
    def method(self) -> str:
        """The method of the layers; several are joined by commas."""
        return self._all_of("method")

    @property
    def pattern(self) -> str:
        """The pattern of the layers; several are joined by commas."""
        return self._all_of("pattern")

    @property
    def sparsity(self) -> float:
        """Share of the weights of the pruned layers that were removed; 0 if none was pruned."""
        return share(self._removed, sum(each.weights for each in self.layers if each.pruned))

    @property
    def block_sparsity(self) -> float:
        """Share of all weights inside the decoder blocks that were removed."""
        return share(self._removed, self.block_weights)

    @property
    def left_alone(self) -> dict[str, int]:
        """What stayed dense although nobody asked for that: names, with numbers of weights."""
        layers = {each.name: each.weights for each in self.layers if each.left_dense_unasked}
        return {**layers, **self.unasked}

    @property
    def left_alone_share(self) -> float:
        """Share of all weights inside the decoder blocks that `left_alone` holds."""
        return share(sum(self.left_alone.values()), self.block_weights)

    @property
    def less_than_asked(self) -> bool:
        """Whether more than a tenth of the blocks' weights stayed dense unasked."""
        return self.left_alone_share > TOLERATED

    @property
    def _removed(self) -> int:
        return sum(layer.removed for layer in self.layers)

    @property
    def relative_error(self) -> float:
        """Mean over the layers that were pruned; 0 if none was."""
        errors = [layer.relative_error for layer in self.layers if layer.pruned]
        return sum(errors) / len(errors) if errors else 0.0

    def _all_of(self, option: str) -> str:
        values = [str(layer.options[option]) for layer in self.layers if layer.options]
        return ", ".join(dict.fromkeys(values))

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "method": self.method,
            "pattern": self.pattern,
            "verified": self.verified,
            "verdict": self.verdict,
            "sparsity": self.sparsity,
            "block_weights": self.block_weights,
            "block_sparsity": self.block_sparsity,
            "left_alone": self.left_alone,
            "left_alone_share": self.left_alone_share,
            "less_than_asked": self.less_than_asked,
            "relative_error": self.relative_error,
            "seconds": self.seconds,
            "others": self.others,
            "layers": [layer.as_dict() for layer in self.layers],
            **({"ranks": self._shares()} if self.ranks else {}),
        }

    def _shares(self) -> list[dict[str, Any]]:
        pruned = Counter(layer.rank for layer in self.layers if layer.pruned)
        return [
            {"rank": number, "layers": pruned[number], **asdict(share)}
            for number, share in enumerate(self.ranks)
        ]


class _Options(TypedDict):
    pattern: str
    method: str
    block_size: int
    damping: float
    refit_steps: Count


class _Said(TypedDict):
    """The verdict that `LayerRecord.as_dict` adds."""

    verified: bool
    verdict: Literal["passed", "failed", "not decidable", "dense, as asked"]


class _Check(TypedDict):
    name: str
    value: float | Literal["nan", "inf", "-inf"]
    where: str
    note: str
    verdict: NotRequired[Literal["passed", "failed", "not decidable"]]


class _Certificate(TypedDict):
    """What other code relies on in a certificate; another judge's may have no checks."""

    passed: bool
    verdict: NotRequired[str]
    checks: NotRequired[list[_Check]]


class _Model(TypedDict):
    source: str
    origin: str
    dtype: str
    commit: str | None
    licence: NotRequired[str | None]


class _Facts(TypedDict):
    bytes: Count
    sha256: str


class _Record(TypedDict):
    """What other code relies on in `thanos.json`, beside its layers."""

    method: str
    pattern: str
    verified: bool
    verdict: str
    sparsity: float
    block_weights: Count
    block_sparsity: float
    left_alone: dict[str, Count]
    left_alone_share: float
    less_than_asked: bool
    relative_error: float
    seconds: dict[str, float]
    others: list[str]
    layers: list[dict[str, object]]
    dtype: NotRequired[Literal["float32", "bfloat16", "float16"]]
    files: NotRequired[dict[str, _Facts]]
    grams: NotRequired[dict[str, _Facts]]
    model: NotRequired[_Model]
    settings: NotRequired[dict[str, object]]
    text: NotRequired[dict[str, object]]
    versions: NotRequired[dict[str, str]]


@checked()
def read_record(folder: str | Path) -> dict[str, Any] | None:
    """The content of `thanos.json` in a folder; None without one.

    Raises ValueError, in one line that names the file, unless every value that anything reads has
    its type, and the layers, their certificates and the summary of them agree.
    """
    folder = Path(folder)
    file = inside(folder, RECORD)
    if not file.exists():
        return None
    problem = f"{file} is no record of a pruned model"
    record = read_json(file, _Record, "is no record of a pruned model")
    try:
        layers = [LayerRecord.from_dict(layer) for layer in record["layers"]]
        if not layers or len({layer.name for layer in layers}) < len(layers):
            raise ValueError("it has no layers, or one of them twice")
        report = ModelReport(layers, record["others"], record["seconds"], {})
        for name in ("method", "pattern", "verified", "verdict"):
            if record[name] != getattr(report, name):
                said, derived = record[name], getattr(report, name)
                raise ValueError(f"{name} is {shown(said)}, the layers say {shown(derived)}")
    except ValueError as error:
        raise ValueError(f"{problem}: {error}") from None
    return {**record}


def is_consistent(record: Stored) -> bool:
    """Whether a record that was read says of every layer what the rest of it says.

    `read_record` lets pass what `thanos inspect` names with other problems: a layer that says less
    than its certificate, and another number of removed weights.
    """
    layers = [LayerRecord.from_dict(entry) for entry in record["layers"]]
    same = all(
        (layer.verified, layer.verdict) == (entry["verified"], entry["verdict"])
        and bool(layer.options or not layer.removed)
        for layer, entry in zip(layers, record["layers"], strict=True)
    )
    return same and ModelReport(layers, [], {}, {}).sparsity == record["sparsity"]


def _refuse_certificate(certificate: _Certificate, problem: str) -> None:
    """Raise ValueError for a certificate with another verdict than its checks."""
    checks = certificate.get("checks")
    verdict = verdict_of(certificate)
    found = verdict if checks is None else together(each.get("verdict", "") for each in checks)
    if found != verdict or certificate.get("verdict", verdict) != verdict or checks == []:
        raise ValueError(f"{problem}: its certificate says {verdict}, the checks in it do not")


@checked()
def places_of(record: Mapping[str, Any]) -> dict[str, Place]:
    """Where the checkpoint has the weights of a record's layers, as far as the record says it."""
    return {
        layer["name"]: Place.from_dict(layer["stored"])
        for layer in record["layers"]
        if layer["stored"]
    }


def described_files(record: Mapping[str, Any], part: str = "files") -> dict[str, dict[str, Any]]:
    """What `facts_of` said of each file of a result, by name; empty if the record does not say it.

    part  "files" of the checkpoint, or "grams", which were kept
    """
    return dict(record.get(part, {}))
