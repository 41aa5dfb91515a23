"""Models of a hub by commit, branch or tag, from a hub's cache: no network is asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import tiny
from tests.test_imports import ROOT
from thanos_torch.checkpoint.hub import HubModel, hub_model

OLD, NEW = "a" * 40, "b" * 40
PROGRAM = """
import sys
from thanos_torch.checkpoint.base_card import base_licence, base_model
from thanos_torch.models import load_model
from thanos_torch.pruning.dry_run import meta_model
for source in sys.argv[1:]:
    loaded = load_model(source)
    planned = meta_model(source)
    print(loaded.provenance()["commit"][0], loaded.model.config.num_hidden_layers,
          planned.config.num_hidden_layers, base_model(source), base_licence(source))
"""


@pytest.mark.parametrize(
    ("source", "model"),
    [
        ("owner/name", HubModel("owner/name")),
        ("owner/name@main", HubModel("owner/name", "main")),
        ("owner/name@refs/pr/1", HubModel("owner/name", "refs/pr/1")),
        ("owner/na.me-1_2@" + OLD, HubModel("owner/na.me-1_2", OLD)),
        ("name", None),
        ("./owner/name", None),
        ("a/b/c", None),
        ("~/name", None),
        ("@main", None),
    ],
)
def test_names_of_models(source: str, model: HubModel | None) -> None:
    assert hub_model(source) == model


def test_a_revision_must_follow() -> None:
    with pytest.raises(ValueError, match="'owner/name@' must name a commit, branch or tag"):
        hub_model("owner/name@")


def test_a_model_is_loaded_and_planned_for_at_its_revision(tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--tiny"
    for commit, layers in ((OLD, 1), (NEW, 2)):
        model = tiny.random_model(tiny.llama_config(num_hidden_layers=layers))
        folder = tiny.save_checkpoint(model, repository / "snapshots" / commit)
        (folder / "README.md").write_text(f"---\nlicense: of-{commit[0]}\n---\n")
    (repository / "refs").mkdir()
    for branch, commit in (("main", NEW), ("first", OLD)):
        (repository / "refs" / branch).write_text(commit)
    sources = [f"owner/tiny{revision}" for revision in ("", "@first", f"@{OLD}", f"@{NEW}")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *sources],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [
        f"{name} {layers} {layers} ['owner/tiny'] of-{name}"
        for name, layers in (("b", 2), ("a", 1), ("a", 1), ("b", 2))
    ], done.stderr
