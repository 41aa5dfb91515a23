"""The ablation switches have the same names and defaults, those of the paper, everywhere."""

import inspect
from collections.abc import Callable

import pytest

import reference
import thanos_torch
from reference.patterns import SWITCHES, Ablation, refuse_switches
from verification import certify


@pytest.mark.parametrize("function", [reference.thanos, thanos_torch.thanos, certify])
def test_signatures_have_the_switches_with_the_papers_values(
    function: Callable[..., object],
) -> None:
    parameters = inspect.signature(function).parameters
    paper = {name: choices[0] for name, choices in SWITCHES.items()}
    assert {name: parameters[name].default for name in SWITCHES} == paper == vars(Ablation())


def test_what_is_changed() -> None:
    assert Ablation().changed() == {}
    assert Ablation(adaptive=False, metric="obs").changed() == {"adaptive": False, "metric": "obs"}


def test_baselines_have_none() -> None:
    refuse_switches("wanda", Ablation())
    with pytest.raises(
        ValueError, match=r"^update must be joint for method wanda, got 'sequential'"
    ):
        refuse_switches("wanda", Ablation(update="sequential"))
