"""Builds the real device's code for tests off the Mac: over GNUstep and a fake AppleNeuralEngine framework.

The result is one library with the C interface of csrc/device/ane.h, in which ANE_KIND_REAL is served by the
Objective-C of csrc/device/apple, unchanged, and the framework by csrc/tests/fake_ane, whose programs run on the
emulator. Needs clang-19 and libgnustep-base-dev. Only what changed is compiled.

example:
    python scripts/build_fake_ane.py                        # prints the path of the library
    python scripts/build_fake_ane.py --sanitize address     # the same with AddressSanitizer, whose run-time library
                                                            # the process that loads it must bring (LD_PRELOAD)
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "csrc"))
from native_build import CSRC, Compiler, native_sources  # noqa: E402

FAKE = CSRC / "tests" / "fake_ane"
STUBS = ROOT / "scripts" / "macos_stubs" / "IOSurface" / "include"
# The framework, its classes and their methods are looked for as on a Mac; these calls find the fake.
WRAPPED = ["dlopen", "NSClassFromString", "class_copyMethodList", "method_getTypeEncoding"]
OBJECTIVE_C = [
    "-fobjc-runtime=gcc",
    "-fexceptions",
    "-fobjc-exceptions",
    "-fconstant-string-class=NSConstantString",
    "-fno-objc-arc",
    "-Wno-unknown-warning-option",  # the common flags are written for gcc too
    "-Wundeclared-selector",
    "-D_NATIVE_OBJC_EXCEPTIONS",
    "-I/usr/include/GNUstep",
]


def shared_work() -> Path:
    """Where `setup.py build_ext --inplace` keeps its objects: most of them serve here as they are."""
    platform = sysconfig.get_platform()
    return ROOT / "build" / f"temp.{platform}-{sys.implementation.cache_tag}" / f"anetrain-{platform}"


class FakeCompiler(Compiler):
    """Takes the ordinary library's objects where they are the same, and makes the others."""

    def __init__(self, sanitize: str) -> None:
        version = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
        self.sanitizer = [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer"] if sanitize else []
        self.folder = ROOT / "build" / (f"fake_ane-{sanitize.replace(',', '-')}" if sanitize else "fake_ane")
        super().__init__(self.folder / "work" if sanitize else shared_work(), version, self.sanitizer)
        if sanitize:  # one compiler's run-time library for everything
            self.cc, self.cxx = "clang-19", "clang++-19"
        self.library = self.folder / "libanetrain_apple_fake.so"

    @staticmethod
    def is_special(source: Path) -> bool:
        """Different here from what it is in the ordinary library."""
        folders = source.relative_to(CSRC).parts
        return "tests" in folders or "apple" in folders or "ANETRAIN_APPLE" in source.read_text()

    def object_folder(self, source: Path) -> Path:
        return self.folder / "objects" if self.is_special(source) else super().object_folder(source)

    def command(self, source: Path) -> list[str]:
        if not self.is_special(source):
            return super().command(source)
        extra = ["-DANETRAIN_APPLE", f"-I{STUBS}", "-D_GNU_SOURCE"]
        if source.suffix != ".m":
            return [*super().command(source), *extra]
        gcc_include = subprocess.check_output(["gcc", "-print-file-name=include"], text=True).strip()
        # Behind clang's own headers: in front it would hide them.
        return ["clang-19", *self.flags, *OBJECTIVE_C, *extra, "-Werror", "-idirafter", gcc_include]

    def link(self, objects: list[Path]) -> None:
        assert self.openblas is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(self.openblas, self.folder / self.openblas.name)
        wraps = [f"-Wl,--wrap={name}" for name in WRAPPED]
        libraries = [f"-L{self.folder}", "-lscipy_openblas", "-lgnustep-base", "-lobjc", "-ldl"]
        # A sanitizer's run-time library comes with the process that loads this.
        undefined = "-Wl,--allow-shlib-undefined" if self.sanitizer else "-Wl,--no-undefined"
        flags = ["-shared", "-pthread", *self.sanitizer, *wraps, "-Wl,-rpath,$ORIGIN", undefined]
        if not self.is_newer(self.library, objects):
            subprocess.run([self.cxx, "-o", str(self.library), *map(str, objects), *flags, *libraries], check=True)

    @staticmethod
    def is_newer(target: Path, sources: list[Path]) -> bool:
        return target.exists() and all(s.stat().st_mtime <= target.stat().st_mtime for s in sources)

    def build(self) -> None:
        sources = {p for f in (CSRC / "device" / "apple", FAKE) for p in f.rglob("*") if p.suffix in (".c", ".m")}
        self.link(self.compile_all(sorted(sources.union(native_sources()))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sanitize", default="", help="as clang's -fsanitize=, for example address,undefined")
    compiler = FakeCompiler(parser.parse_args().sanitize)
    compiler.build()
    print(compiler.library)


if __name__ == "__main__":
    main()
