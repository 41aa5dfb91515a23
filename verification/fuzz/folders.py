"""The readers of models on disk: what they accept must be whole, what they refuse in one line."""

import copy
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from reference.patterns import parse_pattern
from thanos_torch.certifying.layers import GramReader
from thanos_torch.certifying.provenance import Asked
from thanos_torch.checkpoint import shards
from thanos_torch.checkpoint.load import stream_original
from thanos_torch.checkpoint.packed_format import sha256_of_json
from thanos_torch.checkpoint.record import PASSED, recorded, together
from thanos_torch.checkpoint.shards import INDEX, with_length
from thanos_torch.cli.prune_tables import show_record
from thanos_torch.models import (
    MASKS,
    PACKED,
    RECORD,
    GramWriter,
    LayerOptions,
    Rules,
    finished_run,
    inspect_folder,
    pack_checkpoint,
    places_of,
    prune_checkpoint,
    read_masks,
    read_recipe,
    read_record,
    unpack_checkpoint,
)
from thanos_torch.runtime.progress import work_folder_of
from verification import certify
from verification.benchmarks.comparing.compare import compare
from verification.benchmarks.results import read_results
from verification.fuzz.targets import FuzzTarget
from verification.fuzz.values import varied

LONGEST = 50_000  # characters of a message; it may name every tensor of a tiny model
Reading = Callable[[Path], object]


# Few layers are pruned, as most of a record is its certificates.
RULES = Rules(LayerOptions(parse_pattern("2:4")), include=("*.q_proj", "*.up_proj"))


MODEL = {"source": "m", "origin": "a model", "dtype": "float32", "commit": None}


class NotWholeError(Exception):
    """A reader accepted what is not whole, or refused it in more than one line."""


class _StoppedError(Exception):
    pass


def folder_targets() -> dict[str, FuzzTarget]:
    """All of them, by name."""
    made = _made()
    record, packed = made / "out" / RECORD, made / "packed" / PACKED
    work = work_folder_of(made / "out")
    return {
        "record": _target(record.read_bytes(), partial(_in_copy, "out", RECORD, _inspected)),
        "record, packed": _target(
            record.read_bytes(), partial(_in_copy, "out", RECORD, _packed), share=0.1
        ),
        "record, asked": _target(record.read_bytes(), partial(_in_copy, "out", RECORD, _asked)),
        "record, finished": _target(
            record.read_bytes(), partial(_in_copy, "out", RECORD, _finished), share=0.3
        ),
        "masks": _target(_header(made / "out" / MASKS), _masks),
        "packed": _target(packed.read_bytes(), _signed(False), share=0.3),
        "packed, forged": _target(packed.read_bytes(), _signed(True), share=0.3),
        "index": _target(
            (made / "out" / INDEX).read_bytes(), partial(_in_copy, "out", INDEX, _inspected)
        ),
        "config": _target(
            (made / "dense" / "config.json").read_bytes(),
            partial(_in_copy, "dense", "config.json", stream_original),
            share=0.05,
        ),
        "grams": _target(
            (made / "grams" / "grams.json").read_bytes(),
            partial(_in_copy, "grams", "grams.json", _grams),
        ),
        "recipe": _target(json.dumps(RECIPE).encode(), _recipe),
        "results": _target(json.dumps(_results()).encode(), _compared),
        **{
            name: _target(file.read_bytes(), partial(_resumed, file.relative_to(work)), share=0.02)
            for name, file in _of_a_stopped_run(work).items()
        },
    }


def _of_a_stopped_run(work: Path) -> dict[str, Path]:
    """The JSON files in the work folder of a run, by their purpose."""
    files = {
        "run": work / "run.json",
        "journal": work / "journal" / "00000.json",
        "activations": work / "activations" / "00001" / "list.json",
    }
    return {name: file for name, file in files.items() if file.exists()}


def _target(seed: bytes, read: Callable[[bytes, Path], object], share: float = 1.0) -> FuzzTarget:
    return FuzzTarget((seed,), partial(_in_one_line, read), varied, share, limit=20.0)


def _in_one_line(read: Callable[[bytes, Path], object], content: bytes, folder: Path) -> object:
    try:
        return read(content, folder)
    except ValueError as error:
        if not str(error).isprintable() or len(str(error)) > LONGEST:
            raise NotWholeError(f"refused in several lines: {str(error)[:200]!r}") from error
        raise


@cache
def _made() -> Path:
    """A folder with a dense model, its pruned and packed forms, Gram matrices, a stopped run."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = Path(tempfile.mkdtemp(prefix="thanos-fuzz-made-"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=12, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "dense")
    _prune(folder, GramWriter(folder / "grams"))
    pack_checkpoint(folder / "out", folder / "packed")
    (folder / "out").rename(folder / "whole")
    with suppress(_StoppedError):
        _prune(folder, _stop)
    (folder / "whole").rename(folder / "out")
    return folder


def _stop(layer: Any) -> None:
    if layer.name.startswith("model.layers.1."):
        raise _StoppedError


def _prune(folder: Path, on_layer: Any) -> None:
    windows = torch.arange(64).view(4, 16) * 7 % 32
    with patch.object(shards, "largest_shard", lambda: "2KB"):  # else there is no index
        prune_checkpoint(
            stream_original(folder / "dense"), windows, RULES, folder / "out", judge=certify,
            record={"settings": {}, "model": MODEL}, on_layer=on_layer,
        )  # fmt: skip


def _in_copy(name: str, file: str, read: Reading, content: bytes, folder: Path) -> object:
    """Read a copy of a folder, whose `file` has other content; the copy is made once."""
    own = folder / name
    if not own.exists():
        shutil.copytree(_made() / name, own)
    (own / file).write_bytes(content)
    return read(own)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise NotWholeError(f"accepted: {what}")


def _summary(record: dict[str, Any]) -> dict[str, Any]:
    names, places = ("shape", "removed", "verified"), places_of(record)
    pruned = [layer for layer in record["layers"] if layer["options"]]
    return {
        layer["name"]: [places.get(layer["name"]), *(layer[name] for name in names)]
        for layer in pruned
    }


def _inspected(folder: Path) -> None:
    """As `thanos inspect` does; with exit status 0 the record says of every layer what it did."""
    record = read_record(folder)
    seen = list(inspect_folder(folder, record))
    if record is None or any(layer.problems for layer in seen):
        raise ValueError("something does not hold")
    pruned = [layer for layer in record["layers"] if layer["options"]]
    if together(map(recorded, pruned)) != PASSED:
        raise ValueError("a certificate failed")
    _expect(_summary(record) == _whole_summary(), "a record of other layers")


@cache
def _whole_summary() -> dict[str, Any]:
    record = read_record(_made() / "out")
    assert record is not None
    return _summary(record)


def _finished(folder: Path) -> None:
    """As `thanos prune` shows the result of the very same run, which it does not make again."""
    record = finished_run(folder, {})
    if record is None:
        raise ValueError("not of the same run")
    with redirect_stdout(io.StringIO()):
        show_record(record, "2:4", folder)
    if recorded(record) != PASSED:
        raise ValueError("a certificate failed")
    # Whether these are the layers of the weights beside it only `thanos inspect` looks at.
    own = [facts[2:] for facts in _summary(record).values()]
    whole = [facts[2:] for facts in _whole_summary().values()]
    _expect(sorted(own) == sorted(whole), "a record of other layers")


def _asked(folder: Path) -> None:
    record = read_record(folder)
    if record:
        Asked.by_record("fuzz", record)


def _packed(folder: Path) -> None:
    """Pack and unpack: every file comes back."""
    packed, again = folder.parent / "p", folder.parent / "again"
    for old in (packed, again):
        shutil.rmtree(old, ignore_errors=True)
    pack_checkpoint(folder, packed)
    unpack_checkpoint(packed, again)
    _expect(_digests(again) == _digests(folder), "not every file came back")


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _signed(forged: bool) -> Callable[[bytes, Path], object]:
    """Unpack a folder with another packed.json, whose own hash is right if it is `forged`."""

    def read(content: bytes, folder: Path) -> None:
        with suppress(ValueError, RecursionError, TypeError):
            if forged:
                found = json.loads(content)
                content = json.dumps({**found, "sha256": sha256_of_json(found)}).encode()
        _in_copy("packed", PACKED, partial(_unpacked, folder / "again"), content, folder)

    return read


def _unpacked(again: Path, packed: Path) -> None:
    shutil.rmtree(again, ignore_errors=True)
    unpack_checkpoint(packed, again)
    _expect(_digests(again) == _digests(_made() / "out"), "not every file came back")


def _header(file: Path) -> bytes:
    """The header of a safetensors file as JSON, also what its metadata holds as text."""
    content = file.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = {name: json.loads(text) for name, text in header["__metadata__"].items()}
    return json.dumps({**header, "__metadata__": metadata}).encode()


def _masks(content: bytes, folder: Path) -> None:
    with suppress(ValueError, RecursionError, KeyError, TypeError, AttributeError):
        header = json.loads(content)
        texts = {n: json.dumps(each) for n, each in header["__metadata__"].items()}
        content = json.dumps({**header, "__metadata__": texts}).encode()
    whole = (_made() / "out" / MASKS).read_bytes()
    data = whole[8 + int.from_bytes(whole[:8], "little") :]
    _in_copy("out", MASKS, _inspected, with_length(content) + data, folder)
    before, after = read_masks(_made() / "out"), read_masks(folder / "out")
    same = before.keys() == after.keys() and all(
        torch.equal(before[name].unpacked(), after[name].unpacked()) for name in before
    )
    _expect(same, "other masks")


def _grams(folder: Path) -> None:
    reader = GramReader(folder)
    for name in _whole_summary():
        if name in reader:
            reader.gram(name)


RECIPE: dict[str, Any] = {
    "pattern": "2:4", "method": "thanos", "block_size": 8, "damping": 0.01, "refit": 0,
    "adaptive": False, "metric": "obs",
    "rules": [
        {"layers": ["*.up_proj", "*.down_proj"], "pattern": "unstructured:0.6"},
        {"layers": "*.0.*", "pattern": "dense"},
    ],
}  # fmt: skip


FALLBACK = {"method": "thanos", "block_size": 128, "damping": 0.01, "refit": 0}


def _recipe(content: bytes, folder: Path) -> None:
    """As TOML, as far as TOML can say it."""
    lines: list[str] = []
    try:
        found = json.loads(content)
    except RecursionError:
        found, lines = None, ["pattern = " + "[" * 100_000 + "]" * 100_000]
    if isinstance(found, dict):
        rules = found.pop("rules", [])
        lines += [f"{json.dumps(key)} = {_toml(value)}" for key, value in found.items()]
        tables = isinstance(rules, list) and all(isinstance(rule, dict) for rule in rules)
        lines += [] if tables else [f"rules = {_toml(rules)}"]
        for rule in rules if tables else ():
            lines.append("[[rules]]")
            lines += [f"{json.dumps(key)} = {_toml(value)}" for key, value in rule.items()]
    (folder / "recipe.toml").write_text("\n".join(lines))
    rules_found = read_recipe(folder / "recipe.toml", FALLBACK)
    for choice in rules_found.choices():
        if isinstance(choice, LayerOptions):
            choice.check()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        depth = 0
        while isinstance(value, list) and len(value) == 1 and depth < 10**6:
            value, depth = value[0], depth + 1
        inner = ", ".join(map(_toml, value)) if isinstance(value, list) else _toml(value)
        inner = f"[{inner}]" if isinstance(value, list) else inner
        return "[" * depth + inner + "]" * depth
    if value is None:
        return "2020-01-01"
    return json.dumps(value).replace("Infinity", "inf").replace("NaN", "nan")


def _results() -> dict[str, Any]:
    layers = [
        {"name": f"layers.{n}.q_proj", "removed": 50, "error": 0.1 + n / 10, "passed": True}
        for n in range(3)
    ]
    pruned = {
        "run": {"method": "thanos", "pattern": "2:4"},
        "model": "m",
        "calibration": {"dataset": "d", "nsamples": 8, "seqlen": 512, "seed": 0},
        "perplexity": 20.0,
        "windows": 4,
        "verified": True,
        "layers": layers,
        "seconds": {"pruning": 10.0},
        "peak_memory_bytes": 2**30,
    }
    other = copy.deepcopy(pruned) | {"run": {"method": "wanda", "pattern": "2:4"}}
    dense = {"run": {"method": "dense", "pattern": ""}, "model": "m", "perplexity": 10.0}
    return {"commit": "c", "machine": "two cores", "versions": {"torch": "2"},
            "runs": [dense, pruned, other]}  # fmt: skip


def _compared(content: bytes, folder: Path) -> None:
    """As `thanos bench compare`: with exit status 0 nothing is lost, worse or not certified."""
    (folder / "before.json").write_text(json.dumps(_results()))
    (folder / "after.json").write_bytes(content)
    before, after = (read_results(folder / f"{name}.json") for name in ("before", "after"))
    found = compare(before, after, {}, times=0.2)
    if found.regressions:
        raise ValueError("something got worse")
    for key, records in before.runs.items():
        for draw, record in records.items():
            other = next(iter(after.runs.get(key, {}).values()), None)
            _expect(other is not None, f"{key.label} is lost")
            assert other is not None
            _expect(all(layer.passed for layer in other.layers or ()), "it did not pass")
            lost = record.perplexity is not None and other.perplexity is None
            _expect(not lost, f"the perplexity of {draw} is lost")


def _resumed(file: Path, content: bytes, folder: Path) -> None:
    """Go on with a stopped run, one file of which is another: the result is the same or none."""
    out = folder / "out"
    for old in (out, work_folder_of(out)):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(_made() / "out.partial", work_folder_of(out))
    if not (folder / "dense").exists():
        shutil.copytree(_made() / "dense", folder / "dense", copy_function=shutil.copy2)
    (work_folder_of(out) / file).write_bytes(content)
    _prune(folder, None)
    weights = {name: each for name, each in _digests(out).items() if name.endswith("tensors")}
    whole = {n: each for n, each in _digests(_made() / "out").items() if n.endswith("tensors")}
    _expect(weights == whole, "other weights")
    record = read_record(out)
    _expect(record is not None and _summary(record) == _whole_summary(), "another record")
