"""Which layers are pruned, and how: globs, rules, recipes, and what is refused."""

import json
import re
from pathlib import Path

import pytest

from tests.models.conftest import SMALL, Thanos
from thanos_torch import SemiStructured, Unstructured
from thanos_torch.models import (
    RECORD,
    Ablation,
    Dense,
    LayerOptions,
    Rule,
    Rules,
    load_model,
    read_recipe,
)

HALF = LayerOptions(Unstructured(0.5), block_size=8)
TWO_FOUR = LayerOptions(SemiStructured(2, 4), method="wanda", block_size=8)
SHAPES = {
    "layers.0.attn.q_proj": (16, 16),
    "layers.0.mlp.up_proj": (24, 16),
    "layers.1.attn.q_proj": (16, 16),
    "layers.1.mlp.up_proj": (24, 16),
}

RECIPE = """
pattern = "2:4"
block_size = 8

[[rules]]
layers = "*.mlp.*"
pattern = "unstructured:0.6"
damping = 0.02

[[rules]]
layers = ["*.down_proj", "*.o_proj"]
pattern = "structured:0.25"
method = "wanda"

[[rules]]
layers = "model.layers.2.*"
pattern = "dense"
"""


def test_the_last_rule_that_matches_decides_alone() -> None:
    rules = Rules(
        HALF,
        (
            Rule(("*.mlp.*", "*.attn.*"), Dense("first"), "rule 1"),
            Rule(("*.1.*",), TWO_FOUR, "rule 2"),
        ),
        exclude=("*1.mlp*",),
    )
    plan = rules.plan(SHAPES)
    assert list(plan) == list(SHAPES)
    assert plan["layers.0.attn.q_proj"] == Dense("first")
    assert plan["layers.1.attn.q_proj"] == TWO_FOUR
    assert plan["layers.1.mlp.up_proj"] == Dense("excluded")


def test_include_and_exclude() -> None:
    plan = Rules(HALF, include=("*.q_proj",), exclude=("layers.0.*",)).plan(SHAPES)
    chosen = [name for name, choice in plan.items() if choice == HALF]
    assert chosen == ["layers.1.attn.q_proj"]
    assert plan["layers.1.mlp.up_proj"] == Dense("not included")


REFUSED_RULES: dict[str, tuple[Rules, str]] = {
    "glob": (Rules(HALF, include=("*.qproj",)), r"--include: '\*.qproj' .*near misses: \*.q_proj"),
    "kinds": (Rules(HALF, exclude=("zzz",)), r"'zzz' matches none of the 4 .*: \*.q_proj, \*.up_p"),
    "head": (Rules(HALF, include=("lm_head",)), "'lm_head' matches none .*never the output head"),
    "rule": (Rules(HALF, (Rule(("mlp",), HALF, "r.toml, rule 1"),)), "r.toml, rule 1: 'mlp' match"),
    "shadowed": (
        Rules(HALF, (Rule(("*.mlp.*",), HALF, "rule 1"), Rule(("*",), TWO_FOUR, "rule 2"))),
        r"^rule 1: later rules decide for every layer of '\*.mlp.\*'",
    ),
    "unsaid": (Rules(None, (Rule(("*.mlp.*",), HALF, "rule 1"),)), "no rule matches layers.0.attn"),
    "nothing": (Rules(HALF, exclude=("*",)), "nothing is left to prune"),
    "unfit": (Rules(LayerOptions(SemiStructured(1, 3))), "layers.0.attn.q_proj: m = 3 does not"),
    "options": (Rules(LayerOptions(Unstructured(0.5), damping=0)), "damping must be positive"),
}


@pytest.mark.parametrize("case", REFUSED_RULES)
def test_rules_that_cannot_be_meant_are_refused(case: str) -> None:
    rules, message = REFUSED_RULES[case]
    with pytest.raises(ValueError, match=message):
        rules.plan(SHAPES)


def test_a_recipe(thanos: Thanos, dense: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "recipe.toml", tmp_path / "out"
    file.write_text(RECIPE)
    done = thanos("prune", dense, "--recipe", file, "--out", out, *SMALL, "--exclude", "*.1.*k_*")
    assert done.status == 0, done.err
    record = json.loads((out / RECORD).read_text())
    assert record["verified"]
    asked = record["settings"]["asked"]
    assert asked["default"]["pattern"] == "2:4"
    assert [rule["pattern"] for rule in asked["rules"]][1:] == ["structured:0.25", "dense"]
    assert asked["rules"][0]["damping"] == 0.02
    assert asked["rules"][1]["damping"] == 0.01  # rules do not add up
    expected = {
        "self_attn.q_proj": "2:4",
        "self_attn.o_proj": "structured:0.25",
        "mlp.up_proj": "unstructured:0.6",
        "mlp.down_proj": "structured:0.25",
    }
    model = load_model(str(out)).model
    for layer in record["layers"]:
        block, kind = layer["name"].removeprefix("model.layers.").split(".", 1)
        if block == "2" or (block, kind) == ("1", "self_attn.k_proj"):
            assert layer["asked_dense"]
            assert not layer["removed"]
            continue
        pattern = layer["options"]["pattern"]
        assert pattern == expected.get(kind, pattern)
        assert layer["certificate"]["pattern"] == pattern
        zeros = model.get_submodule(layer["name"]).weight == 0
        if pattern == "2:4":
            assert (zeros.view(len(zeros), -1, 4).sum(2) == 2).all()
        if pattern == "structured:0.25":
            assert int(zeros.all(dim=0).sum()) == -(-zeros.shape[1] // 4)
            assert layer["certificate"]["method"] == "wanda"
    assert "down_proj 16 x 24, structured:0.25" in done.out
    again = thanos("prune", dense, "--recipe", file, "--out", out, *SMALL, "--exclude", "*.1.*k_*")
    assert "holds the result of this very run already" in again.out


def test_a_rule_takes_switches_from_above_and_sets_them_back(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("""
        pattern = "2:4"
        adaptive = false
        [[rules]]
        layers = "*q_proj"
        metric = "obs"
        [[rules]]
        layers = "*k_proj"
        method = "wanda"
        adaptive = true
        outlier_score = "output"
        """)
    given = {"method": "thanos", "block_size": 8, "damping": 0.01, "refit": 0}
    rules = read_recipe(file, {**given, "outlier_score": "wanda"})
    choices = [choice.ablation for choice in rules.choices() if isinstance(choice, LayerOptions)]
    assert choices == [
        Ablation(adaptive=False, outlier_score="wanda"),
        Ablation(adaptive=False, outlier_score="wanda", metric="obs"),
        Ablation(),
    ]
    assert [rule.get("ablation") for rule in rules.as_dict()["rules"]] == [
        {"adaptive": False, "metric": "obs", "outlier_score": "wanda"},
        None,
    ]


RULE = 'pattern = "2:4"\n[[rules]]\nlayers = "*q_proj"\n'
REFUSED: dict[str, tuple[str, tuple[object, ...], str]] = {
    "unknown key": ('patern = "2:4"', (), "recipe.toml: unknown key 'patern', known are pattern"),
    "unknown key of a rule": (RULE + "alpha = 1", (), "recipe.toml, rule 1: unknown key 'alpha'"),
    "type": ('pattern = "2:4"\nblock_size = "8"', (), "block_size must be a number, got '8'"),
    "truth": ('pattern = "2:4"\nrefit = true', (), "recipe.toml: refit must be a number, got True"),
    "no truth": ('pattern = "2:4"\nadaptive = 0', (), "adaptive must be true or false, got 0"),
    "no text": ('pattern = "2:4"\nmetric = 2', (), "recipe.toml: metric must be text, got 2"),
    "switch": ('pattern = "2:4"\nupdate = "no"', (), "recipe.toml: update must be one of joint"),
    "switch of a baseline": (
        'residual = "local"\n' + RULE + 'method = "wanda"',
        (),
        "rule 1: residual must be global for method wanda, got 'local'",
    ),
    "pattern": ('pattern = "half"', (), "recipe.toml: pattern must look like .* got 'half'"),
    "value": (RULE + "damping = -1", (), "recipe.toml, rule 1: damping must be positive"),
    "method": ('pattern = "2:4"\nmethod = "obs"', (), "recipe.toml: method must be .* got 'obs'"),
    "no match": (
        'pattern = "2:4"\n[[rules]]\nlayers = ["*q_proj", "*qproj"]\nrefit = 1',
        (),
        r"recipe.toml, rule 1: '\*qproj' matches none of the 21 layers",
    ),
    "no globs": ('[[rules]]\npattern = "2:4"', (), "rule 1: layers must be a glob .* got None"),
    "idle": (
        '[[rules]]\nlayers = "*"\npattern = "dense"\nrefit = 1',
        (),
        'rule 1: pattern = "dense" leaves no use for refit',
    ),
    "not tables": ('rules = "2:4"', (), "rules must be tables, .* got '2:4'"),
    "no pattern": ('[[rules]]\nlayers = "*"', (), "rule 1: pattern is missing"),
    "rest": ('[[rules]]\nlayers = "*q_proj"\npattern = "2:4"', (), "no rule matches .*k_proj"),
    "two patterns": (
        'pattern = "2:4"',
        ("--pattern", "unstructured:0.5"),
        "'2:4' stands in the recipe, and 'unstructured:0.5' beside it",
    ),
    "zeros": ('pattern = "1:4"', (), "removes 1 of every 4 .* --n-counts-zeros"),
    "no TOML": ("pattern 2:4", (), "recipe.toml is not TOML"),
    "glob": ('pattern = "2:4"', ("--exclude", "q_proj"), r"--exclude: 'q_proj' matches none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_recipes_that_cannot_be_meant_are_refused(
    thanos: Thanos, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe, more, message = REFUSED[case]
    Path("recipe.toml").write_text(recipe)
    done = thanos("prune", dense, "--recipe", "recipe.toml", "--out", "out", *SMALL, *more)
    assert done.status in (1, 2)
    assert re.search(message, " ".join(done.err.split())), done.err
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.toml"]


def test_a_pattern_is_needed(thanos: Thanos, dense: Path, tmp_path: Path) -> None:
    done = thanos("prune", dense, "--out", tmp_path / "out", *SMALL)
    assert done.status == 2
    assert "give a pattern such as 2:4, or a --recipe" in " ".join(done.err.split())
    done = thanos("prune", dense, "--recipe", tmp_path / "none", "--out", tmp_path / "out")
    assert f"recipe {tmp_path / 'none'} cannot be read" in done.err
