import json, re, io, sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
import numpy, torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM
from tests.models.sweep.random_models import random_checkpoint
from tests.models.sweep.inputs import input_grams, weight_of
from thanos_torch.cli import main

WINDOWS, SEQLEN = 24, 32

def command(*arguments):
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["thanos", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
        code = 0
    except SystemExit as e:
        code = e.code
    finally:
        sys.argv = before
    if isinstance(code, str): return 1, out.getvalue(), err.getvalue() + code
    return int(code or 0), out.getvalue(), err.getvalue()

def tensors(folder):
    found = {}
    for f in sorted(folder.glob("*.safetensors")):
        if f.name == "masks.safetensors": continue
        with safe_open(f, "pt") as o:
            for k in o.keys(): found[k] = o.get_tensor(k)
    return found

def line(text): 
    lines=[l for l in text.strip().splitlines() if l.strip()]
    return lines[-1] if lines else ""

def trial(name: str, folder: Path) -> dict[str, Any]:
    try:
        random_checkpoint(name, folder / "dense")
    except Exception as e:
        return {"outcome": "unbuilt", "reason": f"{type(e).__name__}: {str(e)[:300]}"}
    ids = torch.randint(3, 128, (WINDOWS * SEQLEN * 2,), generator=torch.Generator().manual_seed(1))
    numpy.save(folder / "ids.npy", ids.numpy().astype("int32"))
    options = ["--pattern", "unstructured:0.5", "--block-size", 16, "--nsamples", WINDOWS, "--seqlen", SEQLEN]
    dry = command("prune", folder / "dense", *options, "--dry-run")
    done = command("prune", folder / "dense", *options, "--dataset", folder / "ids.npy", "--out", folder / "out", "--keep-gram", folder / "gram")
    result = {"status": done[0], "dry": dry[0]}
    if "Traceback" in done[2] + dry[2]:
        return {**result, "outcome": "failed", "reason": (done[2] + dry[2])[-600:]}
    if done[0] in (1, 2) and not (folder / "out").exists():
        same = line(done[2]) == line(dry[2])
        return {**result, "outcome": "refused", "reason": line(done[2]), **({} if same else {"dry_reason": line(dry[2]) or line(dry[1])})}
    result["problems"] = problems = []
    record = json.loads((folder / "out/thanos.json").read_text())
    result |= {"share": round(record["block_sparsity"], 4), "alone": round(record["left_alone_share"], 4), "others": record["others"], "last": line(done[1])}
    dense_layers = [l for l in record["layers"] if l["left_dense"]]
    unverified = [l["name"] for l in record["layers"] if not l["left_dense"] and not l["verified"]]
    result["dense"] = {l["name"]: l["left_dense"] for l in dense_layers}
    if unverified: problems.append(f"unverified {unverified[:4]}: {[l for l in done[1].splitlines() if 'NOT' in l or 'decidable' in l][:3]}")
    result["outcome"] = {0: "pruned", 4: "partly"}.get(done[0], "other")
    if dry[0] != done[0]: problems.append(f"dry run ends with {dry[0]}, run with {done[0]}")
    again = command("certify", folder / "dense", folder / "out", "--gram", folder / "gram")
    if again[0] != 0: problems.append(f"certify {again[0]}: {again[1][-300:]} {again[2][-300:]}")
    # files
    before, after = tensors(folder / "dense"), tensors(folder / "out")
    touched = set()
    for l in record["layers"]:
        if l["left_dense"]: continue
        st = l["stored"]
        if not st: problems.append(f"no place of {l['name']}"); continue
        parts = [after[t] if st["expert"] is None else after[t][st["expert"]] for t in st["tensors"]]
        olds = [before[t] if st["expert"] is None else before[t][st["expert"]] for t in st["tensors"]]
        zeros = sum(int((p == 0).sum()) for p in parts); old = sum(int((p==0).sum()) for p in olds)
        if zeros != l["removed"] + 0 or old: problems.append(f"{l['name']}: {zeros} zeros, {l['removed']} recorded, {old} before")
        touched.update(st["tensors"])
    if set(before) != set(after): problems.append(f"tensors differ {sorted(set(before)^set(after))[:4]}")
    for k in before:
        if k not in touched and k in after and not torch.equal(before[k].nan_to_num(), after[k].nan_to_num()): problems.append(f"{k} changed")
    # reload
    load = lambda f: AutoModelForCausalLM.from_pretrained(f, output_loading_info=True, dtype=torch.float32)
    model, info = load(folder / "dense"); model.eval()
    pruned, info2 = load(folder / "out"); pruned.eval()
    if any(info2[k] != info[k] for k in ("missing_keys", "unexpected_keys")) or info["missing_keys"]: problems.append(f"loading: {info2}")
    prefixes = {}
    for l in record["layers"]:
        m = re.match(r"(.*?)\.(\d+)\.", l["name"])
        if not m: problems.append(f"name {l['name']}"); continue
        prefixes.setdefault(m[0], []).append(l)
    lists = {re.match(r"(.*?)\.\d+\.$", p)[1] for p in prefixes}
    inside = {n: p for n, p in pruned.named_parameters() if any(re.match(re.escape(s) + r"\.\d+\.", n) for s in lists)}
    whole = sum(p.numel() for p in inside.values())
    removed = sum(l["removed"] for l in record["layers"])
    if abs(removed / whole - record["block_sparsity"]) > 1e-12: problems.append(f"block_sparsity {record['block_sparsity']} not {removed/whole}")
    changed = {n for n, p in pruned.named_parameters() if not torch.equal(p, model.get_parameter(n))}
    known = set(record["others"]) | {l["name"] + ".weight" for l in dense_layers}
    unnamed = [n for n, p in inside.items() if n not in changed and p.squeeze().dim() > 1 and n not in known]
    if unnamed: result["unnamed"] = unnamed
    # memory
    ids2 = None
    for module in model.modules():
        c = getattr(module, "config", None)
        if hasattr(c, "_experts_implementation"): c._experts_implementation = "eager"
    from thanos_torch.models import calibration_windows
    windows = calibration_windows(None, dataset=str(folder / "ids.npy"), nsamples=WINDOWS, seqlen=SEQLEN, seed=0).ids
    from safetensors.torch import load_file
    index = json.loads((folder / "gram/grams.json").read_text())
    worst = 0.0
    for prefix, layers in prefixes.items():
        names = [l["name"] for l in layers if not l["left_dense"]]
        found = input_grams(model, windows, names)
        for n in names:
            kept = load_file(folder / "gram" / f"{index[n]}.safetensors")[index[n]].double()
            if n not in found: problems.append(f"no product with {n}"); continue
            d = float((found[n] - kept).abs().max() / found[n].abs().max())
            worst = max(worst, d)
            if not d < 1e-4: problems.append(f"gram of {n} off by {d:.2g}")
        block = prefix[:-1]
        model.get_submodule(block).load_state_dict(pruned.get_submodule(block).state_dict())
    result["gram"] = worst
    for (n, a), b in zip(model.state_dict().items(), pruned.state_dict().values()):
        if not torch.equal(a.nan_to_num(), b.nan_to_num()): problems.append(f"{n} differs after all blocks")
    with torch.no_grad():
        w = windows[:2]
        a, b = model(w, use_cache=False).logits, pruned(w, use_cache=False).logits
    if not torch.isfinite(b).all(): problems.append("logits not finite")
    if not torch.allclose(a, b, atol=1e-3, rtol=1e-3): problems.append(f"logits differ {(a-b).abs().max()}")
    if problems: result["outcome"] += "?"
    return result

if __name__ == "__main__":
    import tempfile, time, warnings, traceback
    warnings.filterwarnings("ignore"); torch.set_num_threads(1)
    import transformers; transformers.logging.set_verbosity_error()
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as M
    args = sys.argv[1:]
    names = args or list(M)
    if args and ":" in args[0]:
        a, b = map(int, args[0].split(":")); names = list(M)[a::b]
    for n in names:
        start = time.time()
        with tempfile.TemporaryDirectory() as t:
            try: r = trial(n, Path(t))
            except BaseException as e:
                r = {"outcome": "BUG", "reason": traceback.format_exc()[-900:]}
        r["seconds"] = round(time.time() - start, 1)
        print(json.dumps({n: r}), flush=True)
