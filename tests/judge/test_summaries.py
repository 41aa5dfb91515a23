"""The report as Markdown, and the action that writes it into the summary of a job."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]
from markdown_it import MarkdownIt

import reference
from verification.conformance import load_cases
from verification.conformance.callables import PythonFunction
from verification.conformance.command import main
from verification.conformance.markdown import report_markdown
from verification.conformance.verify import verify

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github" / "actions" / "thanos-verify" / "action.yml"
FEW = "magnitude-float64-0"  # 27 cases: the first nine catalogue entries
HOSTILE = "x | <script>`_*\n# forged: passed\x1b[2K ````"


def right(weight: Any, gram: Any, pattern: str, block_size: int, damping: float) -> Any:
    pruned = reference.magnitude(weight, gram, reference.parse_pattern(pattern))
    return pruned.weight, pruned.mask


def negative(*call: Any) -> Any:
    weight, mask = right(*call)
    return np.where(mask, -0.0, weight), mask


def hostile(*call: Any) -> Any:
    raise RuntimeError(HOSTILE)


def summary(function: Any, name: str = "mine") -> str:
    cases = [case for case in load_cases() if case.id.startswith(FEW)]
    judged = PythonFunction(function, "magnitude", name)
    return report_markdown(verify(judged, cases, seed=1), judged.capabilities)


def html(markdown: str) -> str:
    rendered: str = MarkdownIt("commonmark").enable("table").render(markdown)
    return rendered


def test_a_summary_counts_by_method_and_pattern() -> None:
    text = summary(right)
    assert text.startswith("## thanos verify: mine passed\n")
    assert "| magnitude | unstructured | 9 | 0 | 0 | 0 |" in text
    assert html(text).count("<table>") == 1


def test_a_summary_of_failures_names_checks_and_an_explanation_and_shows_one_case() -> None:
    text = summary(negative)
    assert text.startswith("## thanos verify: mine failed\n")
    assert "| zeros | section 2 | 27 |" in text
    assert "| zeros-not-exact: " in text
    assert text.count("to see it again:") == 1
    page = html(text)
    assert page.count("<table>") == 3
    assert page.count("<details>") == page.count("</details>") == 1


def test_text_of_others_cannot_forge_a_summary() -> None:
    page = html(summary(hostile, name=HOSTILE))
    assert "<script>" not in page
    assert "<h1>" not in page
    assert "\x1b" not in page
    assert page.count("<h2>") == page.count("<details>") == page.count("<pre>") == 1


def test_the_command_prints_either_format(capsys: pytest.CaptureFixture[str]) -> None:
    asked = [f"{__name__}:negative", "--method", "magnitude", "--only", f"{FEW}6", "--seed", "1"]
    assert main([*asked, "--format", "markdown"]) == 1
    assert capsys.readouterr().out.startswith("## thanos verify: ")
    assert main(asked) == 1
    assert capsys.readouterr().out.endswith("FAILED\n")


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        ({"IMPLEMENTATION": "mine:fixed"}, 0, "## thanos verify: mine:fixed passed"),
        ({"IMPLEMENTATION": "mine:prune; echo hacked"}, 2, ""),
        ({"COMMAND": "no-such-program --x 'a b'"}, 2, ""),
    ],
)
def test_the_action_writes_the_summary_and_fails_with_the_judge(
    given: dict[str, str], status: int, said: str, tmp_path: Path
) -> None:
    steps = yaml.safe_load(ACTION.read_text())["runs"]["steps"]
    judge = next(step for step in steps if step["name"] == "Judge")
    assert "${{" not in judge["run"]  # text of others is never part of the script
    file = tmp_path / "summary"
    defaults = dict.fromkeys(judge["env"], "")
    variables = {
        **os.environ,
        **defaults,
        "METHOD": "thanos",
        "ARGUMENTS": "--seed 1 --only thanos-float64-06-u",
        "REPORT": str(tmp_path / "report.json"),
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "GITHUB_STEP_SUMMARY": str(file),
        **given,
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", judge["run"]]
    folder = ROOT / "docs" / "examples" / "conformance"
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert file.read_text().startswith(said)
    assert "hacked" not in done.stdout


def test_every_input_of_the_action_reaches_a_step() -> None:
    action = yaml.safe_load(ACTION.read_text())
    steps = str(action["runs"]["steps"])
    for name, about in action["inputs"].items():
        assert about["description"]
        assert f"inputs.{name} " in steps
