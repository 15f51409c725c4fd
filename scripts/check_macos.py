"""Compiles and links the native sources for macOS, on Linux: what a Mac's tools would refuse is refused here.

Everything in csrc/cpu and csrc/device is compiled with -Werror by clang-19, for Apple silicon (with the real device)
and for Intel Macs (emulator only), and linked into a library by LLVM's Mach-O linker, which takes no undefined symbol.

    C library                Apple's own headers and symbol list, as the Python package `ziglang` carries them
    Foundation, IOSurface,   scripts/macos_stubs: headers and lists written by hand, of just what we mean to use.
    Accelerate, libobjc      A wrong declaration in them would not be found
    C++ library              LLVM's: headers of libc++-19-dev; symbols that its Linux build has, not a Mac's own

Not covered: csrc/bindings (they need a Mac's Python), and everything that only a running Mac can show.

example:
    python scripts/check_macos.py                  # both architectures
    python scripts/check_macos.py --arch x86_64    # one
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "csrc"))
from native_build import AVX2, AVX512, COMMON, LANGUAGE, WARNINGS, embed_tables  # noqa: E402

STUBS = ROOT / "scripts" / "macos_stubs"
LIBCXX = Path("/usr/lib/llvm-19")
TARGET_VERSION = "15.0"
COMPILERS = {".c": "clang-19", ".m": "clang-19", ".cpp": "clang++-19"}


def missing_tools() -> list[str]:
    """What this check needs and does not find."""
    missing = [name for name in ("clang-19", "clang++-19", "ld64.lld-19", "llvm-nm-19") if not shutil.which(name)]
    if not (LIBCXX / "include/c++/v1/vector").exists():
        missing.append("libc++-19-dev")
    if importlib.util.find_spec("ziglang") is None:
        missing.append("the Python package ziglang")
    return missing


def zig_libc() -> Path:
    spec = importlib.util.find_spec("ziglang")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "lib" / "libc"


def sources(csrc: Path, arch: str) -> list[tuple[Path, list[str]]]:
    """The files that setup.py would compile on such a Mac, with their own flags."""
    chosen: list[tuple[Path, list[str]]] = []
    for source in sorted(p for f in ("cpu", "device") for p in (csrc / f).rglob("*") if p.suffix in LANGUAGE):
        flags = [*LANGUAGE[source.suffix]]
        if source.stem.endswith(("_avx2", "_avx512")):
            flags += AVX2 if source.stem.endswith("_avx2") else AVX512
            wanted = arch == "x86_64"
        elif source.stem.endswith("_neon") or "apple" in source.relative_to(csrc).parts:
            wanted = arch == "arm64"
        else:
            wanted = True
        if wanted:
            chosen.append((source, flags))
    return chosen


def system_flags(source: Path) -> list[str]:
    resources = subprocess.check_output(["clang-19", "-print-resource-dir"], text=True).strip()
    system = [Path(resources) / "include", zig_libc() / "include" / "any-macos-any"]
    if source.suffix == ".cpp":
        system.insert(0, LIBCXX / "include/c++/v1")
    system += sorted(STUBS.glob("*/include"))
    flags = ["-nostdinc", *(["-nostdinc++"] if source.suffix == ".cpp" else [])]
    return flags + [part for path in system for part in ("-isystem", str(path))]


def compile_for_mac(source: Path, own_flags: list[str], csrc: Path, arch: str, work: Path) -> tuple[Path, str]:
    """The object, and what the compiler said when it refused."""
    target = work / arch / source.relative_to(csrc).with_suffix(source.suffix + ".o")
    target.parent.mkdir(parents=True, exist_ok=True)
    defines = ['-DANETRAIN_VERSION="0"', "-DANETRAIN_ACCELERATE", *(["-DANETRAIN_APPLE"] if arch == "arm64" else [])]
    # Nothing is run, so nothing is optimised; and the common flags are written for gcc too.
    quick = ["-O0", "-g0", "-Wno-unknown-warning-option"]
    flags = [*COMMON, *WARNINGS, *quick, "-Wundeclared-selector", "-Werror"]
    flags += [f"-I{csrc}", f"-I{work / 'generated'}", *defines]
    command = [COMPILERS[source.suffix], "-target", f"{arch}-apple-macos{TARGET_VERSION}", *own_flags, *flags]
    command += [*system_flags(source), "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    return target, "" if done.returncode == 0 else done.stderr


def write_libcxx_symbols(target: Path) -> None:
    """LLVM's C++ library as a Mach-O symbol list."""
    names: set[str] = set()
    for library in ("libc++.so.1", "libc++abi.so.1"):
        command = ["llvm-nm-19", "-D", "--defined-only", "--format=just-symbols", str(LIBCXX / "lib" / library)]
        names.update(n.split("@")[0] for n in subprocess.check_output(command, text=True).split())
    targets = "[ x86_64-macos, arm64-macos ]"
    symbols = ", ".join(f"'_{name}'" for name in sorted(names))
    target.write_text(
        f"--- !tapi-tbd\ntbd-version: 4\ntargets: {targets}\ninstall-name: '/usr/lib/libc++.1.dylib'\n"
        f"exports:\n  - targets: {targets}\n    symbols: [ {symbols} ]\n...\n"
    )


def link(objects: list[Path], arch: str, work: Path) -> str:
    """What the linker said when it refused."""
    libcxx = work / "libc++.tbd"
    write_libcxx_symbols(libcxx)
    lists = [libcxx, zig_libc() / "darwin" / "libSystem.tbd", STUBS / "Accelerate" / "Accelerate.tbd"]
    if arch == "arm64":
        lists += [STUBS / "Foundation" / "Foundation.tbd", STUBS / "IOSurface" / "IOSurface.tbd"]
        lists += [STUBS / "objc" / "libobjc.tbd"]
    else:
        lists += [STUBS / "clang_rt" / "libclang_rt.tbd"]
    command = ["ld64.lld-19", "-arch", arch, "-platform_version", "macos", TARGET_VERSION, TARGET_VERSION, "-dylib"]
    command += ["--error-limit=0"]
    command += ["-o", str(work / f"libanetrain-{arch}.dylib"), *map(str, objects), *map(str, lists)]
    done = subprocess.run(command, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr


def check(csrc: Path, arch: str, work: Path) -> str:
    """Empty when all is well, else what was refused."""
    embed_tables(work / "generated")
    chosen = sources(csrc, arch)
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
        results = list(pool.map(lambda s: compile_for_mac(s[0], s[1], csrc, arch, work), chosen))
    refused = "".join(message for _, message in results if message)
    return refused or link([target for target, _ in results], arch, work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=["arm64", "x86_64"], action="append", help="default: both")
    parser.add_argument(
        "--csrc", type=Path, default=ROOT / "csrc", help="sources to check (default: this repository's)"
    )
    arguments = parser.parse_args()
    if missing := missing_tools():
        sys.exit("check_macos needs " + ", ".join(missing))
    with tempfile.TemporaryDirectory() as work:
        for arch in arguments.arch or ["arm64", "x86_64"]:
            if refused := check(arguments.csrc.resolve(), arch, Path(work)):
                sys.exit(f"{refused}\nmacOS {arch}: refused")
            print(f"macOS {arch}: compiles and links ({len(sources(arguments.csrc.resolve(), arch))} files)")


if __name__ == "__main__":
    main()
