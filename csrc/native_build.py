"""How native sources are found and compiled, for the library (setup.py) and the native tests (scripts/native_tests.py).

What is compiled, and with which flags, follows from a file's place and name:
    csrc/cpu, csrc/device            into the library (the C interface, installed with its header)
    csrc/device/apple/*.m            macOS on Apple silicon only
    *_avx2.*, *_avx512.*             x86-64 only, for CPUs that have it (chosen at run time)
    *_neon.*                         arm64 only
Objects are kept with their dependencies, so a second build compiles only what changed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from objc_protocols import methods_of

CSRC = Path(__file__).parent.resolve()
APPLE = sys.platform == "darwin"
MACHINE = os.environ.get("ARCHFLAGS", "").split()[-1:] or [platform.machine()]
ARM64 = MACHINE[0] in ("arm64", "aarch64")
APPLE_ANE = APPLE and ARM64
APPLE_TARGET = ["-arch", MACHINE[0], "-mmacosx-version-min=15.0"]

# GCC 12 sees overlapping copies in std::string where there are none (its bug 105651).
# psabi: SIMD vectors are only ever passed to functions that are inlined (cpu/lanes.h).
WARNINGS = ["-Wall", "-Wextra", "-Wno-psabi", *([] if APPLE else ["-Wno-restrict"])]
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


def copy_if_changed(source: Path, target: Path, pattern: str) -> None:
    for file in source.glob(pattern):
        write_if_changed(target / file.name, file.read_text())


def embed_tables(target: Path) -> None:
    """What C++ includes and is written somewhere else."""
    embed_profiles(target)
    embed_framework_methods(target)


def embed_profiles(target: Path) -> None:
    """Chip profiles are data files; the library carries them so that a C program needs no path."""
    lines = ["// Generated from csrc/device/emulator/profiles.\n"]
    for profile in sorted((CSRC / "device/emulator/profiles").glob("*.profile")):
        lines.append(f'{{"{profile.stem}", R"PROFILE({profile.read_text()})PROFILE"}},\n')
    write_if_changed(target / "builtin_profiles.inc", "".join(lines))


def embed_framework_methods(target: Path) -> None:
    """What the framework's classes are expected to have; the emulator answers with it when it is asked for its API."""
    header = CSRC / "device/apple/private_api.h"
    lines = [f"// Generated from {header.relative_to(CSRC.parent)}.\n"]
    for owner, methods in methods_of(header.read_text()).items():
        lines += [f'{{"{owner}", "{selector}", "{encoding}"}},\n' for selector, encoding in methods.items()]
    write_if_changed(target / "framework_methods.inc", "".join(lines))


class Compiler:
    """Compiles files of csrc/ into objects under `work`; `extra_flags` come last."""

    def __init__(self, work: Path, version: str, extra_flags: Iterable[str] = ()) -> None:
        self.work = work
        self.generated = work / "generated"
        self.flags = [*COMMON, *WARNINGS, f"-I{CSRC}", f"-I{self.generated}", f'-DANETRAIN_VERSION="{version}"']
        self.cc = os.environ.get("CC", "cc")
        self.cxx = os.environ.get("CXX", "c++")
        self.ar = os.environ.get("AR", "ar")
        self.extra_flags = list(extra_flags)
        self.openblas: Path | None = None  # the file to link to and to ship; Apple has Accelerate
        if APPLE:
            self.flags += [*APPLE_TARGET, "-DANETRAIN_ACCELERATE"]
        elif sys.platform == "linux":
            import scipy_openblas32  # build requirement: copied beside our library, never a run-time dependency

            # Its headers move with every isolated build; copies keep the command, and so the objects, the same.
            copy_if_changed(Path(scipy_openblas32.get_include_dir()), self.generated, "*.h")
            self.flags += ["-DANETRAIN_OPENBLAS", "-pthread"]
            self.openblas = Path(scipy_openblas32.get_lib_dir()) / "libscipy_openblas.so"
        else:
            raise SystemExit("anetrain builds on macOS and Linux; this is " + sys.platform)
        if APPLE_ANE:
            self.flags += ["-DANETRAIN_APPLE"]
        self.flags += self.extra_flags

    def compile_all(self, sources: Iterable[Path]) -> list[Path]:
        for name in (self.cc, self.cxx):
            if shutil.which(name) is None:
                raise SystemExit(f"no compiler {name!r}: anetrain is built from C and C++ (docs/troubleshooting.md)")
        embed_tables(self.generated)
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
            return list(pool.map(self.compile, sources))

    def compile(self, source: Path) -> Path:
        target = self.object_folder(source) / source.relative_to(CSRC).with_suffix(source.suffix + ".o")
        command = [*self.command(source), "-MMD", "-c", str(source), "-o", str(target)]
        if self.is_current(target, command):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        print("compile", source.relative_to(CSRC), flush=True)
        subprocess.run(command, check=True)
        target.with_suffix(".cmd").write_text("\n".join(command))
        return target

    def object_folder(self, source: Path) -> Path:
        return self.work / "objects"

    def command(self, source: Path) -> list[str]:
        """The compiler and its flags."""
        program = self.cxx if source.suffix == ".cpp" else self.cc
        return [program, *LANGUAGE[source.suffix], *self.flags, *(instruction_set_flags(source) or [])]

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

    def program(self, name: str, sources: Iterable[Path], link_flags: Iterable[str] = ()) -> Path:
        """A program of `sources` and of what they need from the native sources."""
        archive, program = self.work / "libnative.a", self.work / name
        archive.unlink(missing_ok=True)  # or it would keep members whose source is gone
        subprocess.run([self.ar, "rcs", str(archive), *map(str, self.compile_all(native_sources()))], check=True)
        objects = [*map(str, self.compile_all(sources)), str(archive)]
        openblas = [str(self.openblas), f"-Wl,-rpath,{self.openblas.parent}"] if self.openblas else []
        command = [self.cxx, *self.extra_flags, *link_flags, "-o", str(program), *objects, *openblas, *self.libraries()]
        subprocess.run(command, check=True)
        return program

    def libraries(self) -> list[str]:
        """What the objects need at link time, beside OpenBLAS."""
        if not APPLE:
            return ["-pthread", "-ldl"]
        ane = ["-framework", "Foundation", "-framework", "IOSurface", "-lobjc"] if APPLE_ANE else []
        return [*APPLE_TARGET, "-framework", "Accelerate", *ane]
