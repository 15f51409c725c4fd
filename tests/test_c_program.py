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


def test_the_header_is_also_cpp(compiler: str, tmp_path: Path):
    source = tmp_path / "header.cpp"
    source.write_text("#include <anetrain/ane.h>\nint main() { return ane_version() == nullptr; }\n")
    subprocess.run([compiler, *flags("c++20"), "-fsyntax-only", str(source)], check=True)
