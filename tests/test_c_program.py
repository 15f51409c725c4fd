"""The installed header and library serve a program in C."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import anetrain
from tests.ane_abi import ROOT
from tests.support import need

PACKAGE = Path(anetrain.__file__).parent


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which(os.environ.get("CC", "cc"))
    need(found, "a C compiler")
    assert found
    return found


def flags(standard: str) -> list[str]:
    return [f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{PACKAGE / 'include'}"]


def test_hello_is_compiled_and_run(compiler: str, tmp_path: Path):
    library, hello = PACKAGE / "lib", tmp_path / "hello"
    link = [f"-L{library}", "-lanetrain", f"-Wl,-rpath,{library}", "-o", str(hello)]
    subprocess.run([compiler, *flags("c11"), str(ROOT / "csrc/tests/hello.c"), *link], check=True)
    done = subprocess.run([str(hello)], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("hello, ANE\n")


@pytest.mark.parametrize("header", ["ane.h", "ane_raw.h"])
def test_the_headers_are_also_cpp(compiler: str, tmp_path: Path, header: str):
    for standard, suffix, null in (("c++20", "cpp", "nullptr"), ("c11", "c", "0")):
        source = tmp_path / f"header.{suffix}"
        source.write_text(f"#include <anetrain/{header}>\nint main(void) {{ return ane_version() == {null}; }}\n")
        subprocess.run([compiler, *flags(standard), "-fsyntax-only", str(source)], check=True)
