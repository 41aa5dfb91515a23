"""Python functions, programs and folders of outputs get the same verdict."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reference
from verification.conformance import Failed, Output, Refused, load_case, load_cases
from verification.conformance.callables import PythonFunction, load_callable
from verification.conformance.capabilities import Capabilities, read_capabilities
from verification.conformance.command import main, shuffled_names
from verification.conformance.judge import judge_answer
from verification.conformance.programs import Program
from verification.conformance.tensors import write_tensors
from verification.fresh import fresh_cases

ONLY = "thanos-float64-0"  # the first nine catalogue entries in all patterns

# The reference as a program, as a user would wrap a library.
PROGRAM = """
import json, sys
sys.path.insert(0, {root!r})
if sys.argv[1] == "--describe":
    print(json.dumps({{"methods": ["thanos"], "dtypes": ["float64"], "refusals": True}}))
    raise SystemExit
from verification.conformance.builtin import reference
from verification.conformance.tensors import read_tensors, write_tensors
given = read_tensors(sys.argv[1])
about = given.metadata
try:
    block_size = float(about["block_size"])
    block_size = int(block_size) if block_size.is_integer() else block_size
    weight, mask, losses = reference(
        given["weight"], given["gram"], about["pattern"], block_size, float(about["damping"]),
        method=about["method"],
    )
except ValueError as error:
    print(error, file=sys.stderr)
    raise SystemExit(2)
write_tensors(sys.argv[2], {{"weight": weight, "mask": mask, "block_losses": losses}}, {{}})
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    script = tmp_path / "prune.py"
    script.write_text(PROGRAM.format(root=str(Path(__file__).parents[2])))
    return f"{sys.executable} {script}"


# tests/judge/test_plugin.py judges the fast version in every run.
@pytest.mark.parametrize("name", ["reference", pytest.param("torch", marks=pytest.mark.long)])
def test_our_own_pass_everything(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--seed", "1"]) == 0
    printed = capsys.readouterr().out
    # Eight cases have a layer that float64 cannot judge and whose exact answer is uncertain.
    assert "1275 passed, 0 failed, 0 not supported, 8 not decidable" in printed
    assert "375 of them drawn for this run: --seed 1 repeats it" in printed
    assert printed.endswith("PASSED\n")


def test_a_program(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--command", program, "--only", "thanos-float64-06-n", "--seed", "1"]) == 0
    assert "3 cases: 3 passed" in capsys.readouterr().out
    case = load_case("refusal-damping-nan")
    refused = Program(program, "thanos").answer(case)
    assert isinstance(refused, Refused)
    assert "damping" in refused.message


def test_a_script_is_found_although_the_program_runs_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "refuse.sh").write_text('echo "$1 of $PWD" >&2; exit 2')
    monkeypatch.chdir(tmp_path)
    program = Program("bash refuse.sh no-file", "thanos")
    answer = program.answer(load_case("refusal-damping-nan"))
    assert isinstance(answer, Refused)
    assert answer.message.startswith("no-file of ")
    assert str(tmp_path) not in answer.message
    assert f" {tmp_path / 'refuse.sh'} no-file " in program.reproduce(
        load_case("refusal-damping-0")
    )


def test_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    function = PythonFunction(load_callable("reference"), "thanos", "reference")
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "describe.json").write_text('{"name": "elsewhere", "refusals": true}')
    names = shuffled_names(7)
    for case in (*load_cases(), *fresh_cases(7)):
        wanted = ONLY in case.id or "refusal" in case.id or case.id.startswith("fresh")
        if not wanted or case.method != "thanos":
            continue
        answer = function.answer(case)
        name = names[case.id]
        if isinstance(answer, Refused):
            (folder / f"{name}.json").write_text(json.dumps({"refused": answer.message}))
        else:
            assert isinstance(answer, Output)
            tensors = {"weight": answer.weight, "mask": answer.mask}
            write_tensors(folder / f"{name}.safetensors", tensors, {})
    report = tmp_path / "report.json"
    judged = ["--outputs", str(folder), "--seed", "7"]
    for only in (ONLY, "refusal", "fresh-thanos-float64"):
        assert main([*judged, "--only", only, "--json", str(report)]) == 0
    said = json.loads(report.read_text())
    assert said["implementation"] == "elsewhere"
    assert said["passed"] is True
    assert said["seed"] == 7
    gone = folder / f"{names[f'{ONLY}3-unstructured']}.safetensors"
    gone.unlink()
    assert main([*judged, "--only", ONLY]) == 1
    assert f"{gone.name} cannot be read" in capsys.readouterr().out
    assert main(["--outputs", str(folder), "--only", ONLY]) == 2
    assert "outputs need --seed" in capsys.readouterr().err


def test_inputs_can_be_taken_elsewhere_and_tell_nothing_of_their_cases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--export", str(tmp_path / "inputs"), "--seed", "7"]) == 0
    assert "--outputs FOLDER --seed 7" in capsys.readouterr().out
    files = sorted((tmp_path / "inputs").iterdir())
    names = shuffled_names(7)
    assert [file.stem for file in files] == sorted(names.values())
    assert len(files) == len(load_cases()) + len(fresh_cases(7))
    for case in (load_case("thanos-float64-03-unstructured"), fresh_cases(7)[0]):
        content = (tmp_path / "inputs" / f"{names[case.id]}.safetensors").read_bytes()
        assert case.weight.tobytes() in content
        assert case.id.encode() not in content
    assert names != shuffled_names(8)
    assert main(["--export", str(tmp_path / "inputs")]) == 2  # it is not empty any more


def only_unstructured(*arguments: Any) -> Any:
    return load_callable("reference")(*arguments)[:2]


only_unstructured.patterns = ["unstructured"]  # type: ignore[attr-defined]


def test_what_is_not_supported_is_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{__name__}:only_unstructured"
    assert main([name, "--only", "thanos-float64-03", "--seed", "1"]) == 0
    assert "5 cases: 1 passed, 0 failed, 4 not supported" in capsys.readouterr().out


def test_a_single_pattern_can_be_declared_in_the_place_of_all() -> None:
    declared = {"patterns": ["2:4"], "dtypes": ["float64", "float32"]}
    capabilities = read_capabilities(declared, "thanos", "mine")
    groups = [case for case in load_cases() if case.method == "thanos" and not case.storage]
    supported = {case.pattern for case in groups if capabilities.missing(case) is None}
    assert supported == {"2:4"}
    assert {"1:1", "2:4+outliers:0.2"} <= {case.pattern for case in groups}


def test_an_empty_run_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{__name__}:only_unstructured", "--only", "thanos-float64-03-nm"]) == 2
    assert "nothing was judged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--command"),
        (["reference", "--outputs", "."], "--command"),
        (["no_such_module:prune"], "no_such_module"),
        (["reference.thanos:nothing"], "nothing"),
        (["reference.patterns:re"], "re"),
        (["thanos"], "pkg.module:function"),
        (["--command", "no-such-program"], "no-such-program"),
        (["--command", "   "], "command"),
        (["--command", "true", "--timeout", "0"], "timeout"),
        (["--outputs", "no-such-folder", "--seed", "7"], "no-such-folder"),
        (["--outputs", "tests"], "--seed"),
        (["reference", "--only", "no-such-case"], "no-such-case"),
        (["reference", "--timeout", "nan"], "timeout"),
        (["reference", "--json", "/no/such/folder/report"], "/no/such/folder"),
        (["reference", "--json", "/"], "json must be a file, got the folder /"),
    ],
)
def test_usage_errors(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("declared", "named"),
    [
        ({"patterns": ["2:4:1"]}, "2:4:1"),
        ({"dtypes": ["2:4"]}, "2:4"),
        ({"dtypes": "float64"}, "dtypes"),
        ({"methods": ["obd"]}, "obd"),
        ({"refusals": 1}, "refusals"),
        ({"arithmetic": "float16"}, "float16"),
    ],
)
def test_declarations_are_checked(declared: dict[str, Any], named: str) -> None:
    def prune(*_: Any) -> None:
        raise AssertionError

    for key, value in declared.items():
        setattr(prune, key, value)
    with pytest.raises(ValueError, match=named):
        PythonFunction(prune, "thanos", "mine")


def test_declared_precision_is_capped_by_the_dtype() -> None:
    """Claiming float32 for float64 cases does not loosen their bounds."""

    def coarse(weight: Any, gram: Any, pattern: str, block_size: int, damping: float) -> Any:
        pruned = reference.thanos(
            weight, gram, reference.parse_pattern(pattern), block_size=block_size, damping=damping
        )
        return pruned.weight.astype(np.float32).astype(np.float64), pruned.mask

    coarse.arithmetic = "float32"  # type: ignore[attr-defined]
    function = PythonFunction(coarse, "thanos", "coarse")
    assert function.capabilities.judged_arithmetic("float64") == "float64"
    from verification.conformance import judge

    assert not judge(load_case("thanos-float64-13-unstructured"), function).passed


def test_a_function_that_ends_the_process_gets_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{__name__}:ending", "--only", "thanos-float64-13-nm"]) == 1
    assert "raised SystemExit" in capsys.readouterr().out


def ending(*_: Any) -> None:
    sys.exit(0)


def test_a_module_that_ends_the_process_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ending_at_once.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["ending_at_once:prune"]) == 2
    assert "ending_at_once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ("block_size must be at least 1, got -2", ""),
        ("block_size is -2.0: too small", ""),
        ("block_size must be at least 1", "not its value -2"),
        ("block_size 2 or sparsity 0.5 or damping 0.01", "not its value -2"),
        ("block_size-2", "not its value -2"),
        ("blocksize must be at least 1, got -2", "names no block_size"),
    ],
)
def test_a_refusal_names_argument_and_value(message: str, complaint: str) -> None:
    checks = judge_answer(
        load_case("refusal-block-size-negative"),
        Refused(message),
        Capabilities("mine", ("thanos",)),
    )
    (check,) = checks
    assert check.passed == (not complaint)
    assert complaint in check.note


def test_a_program_that_says_nothing_fails(tmp_path: Path) -> None:
    case = load_case("thanos-float64-13-unstructured")
    silent = Program(shutil.which("true") or "true", "thanos").answer(case)
    assert isinstance(silent, Failed)
    assert silent.check == "output"
    failing = Program(shutil.which("false") or "false", "thanos").answer(case)
    assert isinstance(failing, Failed)
    assert "exit status 1" in failing.message
