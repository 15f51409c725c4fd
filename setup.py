"""Builds the native parts: one library (device, emulator, CPU numerics) and the two extension modules over it.

csrc/native_build.py says what is compiled, and with which flags.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
CSRC = ROOT / "csrc"
sys.path.insert(0, str(CSRC))
from native_build import APPLE, Compiler, native_sources  # noqa: E402

LIBRARY = "libanetrain.dylib" if APPLE else "libanetrain.so"


def build_library(compiler: Compiler, package: Path) -> None:
    """lib/libanetrain and include/anetrain under the package folder."""
    objects = compiler.compile_all(native_sources())
    folder = package / "lib"
    folder.mkdir(parents=True, exist_ok=True)
    if APPLE:
        shared = ["-dynamiclib", "-Wl,-install_name,@rpath/" + LIBRARY]
    else:
        assert compiler.openblas is not None
        (folder / compiler.openblas.name).unlink(missing_ok=True)  # processes that run on it keep the old file
        shutil.copy2(compiler.openblas, folder / compiler.openblas.name)
        shared = ["-shared", "-Wl,-soname," + LIBRARY, "-Wl,-rpath,$ORIGIN", "-Wl,--no-undefined"]
        shared += [f"-L{folder}", "-lscipy_openblas"]
    command = [compiler.cxx, "-o", str(folder / LIBRARY), *map(str, objects), *shared, *compiler.libraries()]
    subprocess.run(command, check=True)
    include = package / "include" / "anetrain"
    include.mkdir(parents=True, exist_ok=True)
    for header in ("ane.h", "ane_raw.h"):
        shutil.copy2(CSRC / "device" / header, include / header)


class BuildNative(build_ext):
    """The library first, then the extension modules that link to it."""

    def run(self) -> None:
        package = (ROOT if self.inplace else Path(self.build_lib).resolve()) / "anetrain"
        # One place for every way to build (wheel, editable, inplace), so that nothing is compiled twice.
        work = ROOT / "build" / f"native-{sysconfig.get_platform()}"
        build_library(Compiler(work, self.distribution.get_version()), package)
        rpath = "-Wl,-rpath,@loader_path/lib" if APPLE else "-Wl,-rpath,$ORIGIN/lib"
        for extension in self.extensions:
            extension.include_dirs.append(str(CSRC))
            extension.library_dirs.append(str(package / "lib"))
            extension.libraries.append("anetrain")
            extension.extra_link_args.append(rpath)
            extension.depends += [str(p) for p in CSRC.glob("*/*.h")]
        if not self.inplace:
            (package / "COMMIT").write_text(commit() + "\n")  # for results: an installed package is in no clone
        super().run()


def commit() -> str:
    """Of the clone that is installed; empty for a source distribution."""
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--match", ""]
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return ""
    return subprocess.run(describe, capture_output=True, text=True).stdout.strip()


setup(
    ext_modules=[
        Pybind11Extension(
            "anetrain._device",
            sorted(str(p.relative_to(ROOT)) for p in (CSRC / "bindings").glob("*.cpp")),
            cxx_std=20,
        )
    ],
    cffi_modules=["csrc/bindings/cpu_build.py:ffibuilder"],
    cmdclass={"build_ext": BuildNative},
)
