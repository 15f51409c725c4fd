"""Builds the native parts: one library (device, emulator, CPU numerics) and the two extension modules over it.

What is compiled, and with which flags, follows from a file's place and name:
    csrc/cpu, csrc/device            into lib/libanetrain (the C interface, installed with its header)
    csrc/device/apple/*.m            macOS on Apple silicon only
    *_avx2.*, *_avx512.*             x86-64 only, for CPUs that have it (chosen at run time)
    *_neon.*                         arm64 only
Objects are kept in build/ with their dependencies, so a second build compiles only what changed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
CSRC = ROOT / "csrc"
APPLE = sys.platform == "darwin"
MACHINE = os.environ.get("ARCHFLAGS", "").split()[-1:] or [platform.machine()]
ARM64 = MACHINE[0] in ("arm64", "aarch64")
APPLE_ANE = APPLE and ARM64
DEPLOYMENT_TARGET = "15.0"
LIBRARY = "libanetrain.dylib" if APPLE else "libanetrain.so"

WARNINGS = ["-Wall", "-Wextra"]
# Contraction would make results depend on the compiler; the executors promise equal bits.
COMMON = ["-O3", "-g1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
LANGUAGE = {
    ".c": ["-std=gnu11"],
    ".cpp": ["-std=gnu++20", "-fvisibility-inlines-hidden"],
    ".m": ["-fno-objc-arc", "-fobjc-exceptions"],
}
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512"]


def instruction_set_flags(source: Path) -> list[str] | None:
    """Flags for a file that is written for one instruction set; None where this machine has no use for it."""
    for suffix, flags in (("_avx512", AVX512), ("_avx2", AVX2)):
        if source.stem.endswith(suffix):
            return None if ARM64 else flags
    if source.stem.endswith("_neon"):
        return [] if ARM64 else None
    return []


def native_sources() -> list[Path]:
    folders = [CSRC / "cpu", CSRC / "device"]
    sources = [p for f in folders for p in f.rglob("*") if p.suffix in LANGUAGE]
    if not APPLE_ANE:
        sources = [p for p in sources if "apple" not in p.relative_to(CSRC).parts]
    return sorted(p for p in sources if instruction_set_flags(p) is not None)


def write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def embed_profiles(target: Path) -> None:
    """Chip profiles are data files; the library carries them so that a C program needs no path."""
    lines = ["// Generated from csrc/device/emulator/profiles by setup.py.\n"]
    for profile in sorted((CSRC / "device/emulator/profiles").glob("*.profile")):
        lines.append(f'{{"{profile.stem}", R"PROFILE({profile.read_text()})PROFILE"}},\n')
    write_if_changed(target / "builtin_profiles.inc", "".join(lines))


class NativeLibrary:
    """Compiles csrc/ into lib/libanetrain under a package folder."""

    def __init__(self, work: Path, package: Path, version: str) -> None:
        self.work, self.package = work, package
        self.generated = work / "generated"
        self.flags = [*COMMON, *WARNINGS, f"-I{CSRC}", f"-I{self.generated}", f'-DANETRAIN_VERSION="{version}"']
        self.cc = os.environ.get("CC", "cc")
        self.cxx = os.environ.get("CXX", "c++")
        if APPLE:
            self.flags += [f"-mmacosx-version-min={DEPLOYMENT_TARGET}", "-arch", MACHINE[0], "-DANETRAIN_ACCELERATE"]
        if APPLE_ANE:
            self.flags += ["-DANETRAIN_APPLE"]
        if sys.platform == "linux":
            import scipy_openblas32  # build requirement: copied beside our library, never a run-time dependency

            self.flags += [f"-I{scipy_openblas32.get_include_dir()}", "-DANETRAIN_OPENBLAS", "-pthread"]
            self.openblas: Path | None = Path(scipy_openblas32.get_lib_dir()) / "libscipy_openblas.so"
        elif not APPLE:
            raise SystemExit("anetrain builds on macOS and Linux; this is " + sys.platform)
        else:
            self.openblas = None

    def build(self) -> None:
        embed_profiles(self.generated)
        sources = native_sources()
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
            objects = list(pool.map(self.compile, sources))
        self.link(objects)
        include = self.package / "include" / "anetrain"
        include.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CSRC / "device" / "ane.h", include / "ane.h")

    def compile(self, source: Path) -> Path:
        target = self.work / "objects" / source.relative_to(CSRC).with_suffix(source.suffix + ".o")
        compiler = self.cxx if source.suffix == ".cpp" else self.cc
        flags = [*LANGUAGE[source.suffix], *self.flags, *(instruction_set_flags(source) or [])]
        command = [compiler, *flags, "-MMD", "-c", str(source), "-o", str(target)]
        if self.is_current(target, command):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        print("compile", source.relative_to(ROOT), flush=True)
        subprocess.run(command, check=True)
        target.with_suffix(".cmd").write_text("\n".join(command))
        return target

    @staticmethod
    def is_current(target: Path, command: list[str]) -> bool:
        dependencies, recorded = target.with_suffix(".d"), target.with_suffix(".cmd")
        if not (target.exists() and dependencies.exists() and recorded.exists()):
            return False
        if recorded.read_text() != "\n".join(command):
            return False
        built = target.stat().st_mtime
        files = dependencies.read_text().replace("\\\n", " ").split(":", 1)[1].split()
        return all(Path(f).exists() and Path(f).stat().st_mtime <= built for f in files)

    def link(self, objects: list[Path]) -> None:
        folder = self.package / "lib"
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / LIBRARY
        if APPLE:
            extra = ["-dynamiclib", "-Wl,-install_name,@rpath/" + LIBRARY, "-framework", "Accelerate"]
            extra += ["-arch", MACHINE[0], f"-mmacosx-version-min={DEPLOYMENT_TARGET}"]
            if APPLE_ANE:
                extra += ["-framework", "Foundation", "-framework", "IOSurface", "-lobjc"]
        else:
            assert self.openblas is not None
            shutil.copy2(self.openblas, folder / self.openblas.name)
            extra = ["-shared", "-pthread", "-Wl,-soname," + LIBRARY, "-Wl,-rpath,$ORIGIN"]
            extra += [f"-L{folder}", "-lscipy_openblas", "-ldl"]
        subprocess.run([self.cxx, "-o", str(target), *map(str, objects), *extra], check=True)


class BuildNative(build_ext):
    """The library first, then the extension modules that link to it."""

    def run(self) -> None:
        package = (ROOT if self.inplace else Path(self.build_lib).resolve()) / "anetrain"
        work = Path(self.build_temp).resolve() / f"anetrain-{sysconfig.get_platform()}"
        NativeLibrary(work, package, self.distribution.get_version()).build()
        rpath = "-Wl,-rpath,@loader_path/lib" if APPLE else "-Wl,-rpath,$ORIGIN/lib"
        for extension in self.extensions:
            extension.include_dirs.append(str(CSRC))
            extension.library_dirs.append(str(package / "lib"))
            extension.libraries.append("anetrain")
            extension.extra_link_args.append(rpath)
            extension.depends += [str(p) for p in CSRC.glob("*/*.h")]
        super().run()


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
