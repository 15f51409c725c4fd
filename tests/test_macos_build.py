"""The native sources compile and link for macOS (scripts/check_macos.py), and the check can fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import check_macos
from tests.support import need


@pytest.fixture(autouse=True)
def tools() -> None:
    missing = check_macos.missing_tools()
    need(not missing, "for the macOS check: " + ", ".join(missing))


@pytest.mark.parametrize("arch", ["arm64", "x86_64"])
def test_everything_compiles_and_links(arch: str, tmp_path: Path) -> None:
    assert check_macos.check(check_macos.ROOT / "csrc", arch, tmp_path) == ""


def test_each_architecture_has_its_files() -> None:
    for arch, device in (("arm64", True), ("x86_64", False)):
        chosen = [source for source, _ in check_macos.sources(check_macos.ROOT / "csrc", arch)]
        assert any("apple" in source.parts and source.suffix == ".m" for source in chosen) == device
        assert not any(source.stem.endswith("_avx2" if device else "_neon") for source in chosen)


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[str, str, str], str]:
    """What the compiler says of a file of csrc/device/apple in which one text was replaced by another."""

    def compile_changed(name: str, text: str, replacement: str) -> str:
        csrc = tmp_path / "csrc"
        shutil.copytree(check_macos.ROOT / "csrc", csrc)
        source = csrc / "device" / "apple" / name
        before = source.read_text()
        assert text in before
        source.write_text(before.replace(text, replacement))
        own_flags = dict(check_macos.sources(csrc, "arm64"))[source]
        return check_macos.compile_for_mac(source, own_flags, csrc, "arm64", tmp_path)[1]

    return compile_changed


def test_an_unchanged_file_is_accepted(changed: Callable[[str, str, str], str]) -> None:
    assert changed("compile.m", "unloadWithQoS", "unloadWithQoS") == ""


@pytest.mark.parametrize(
    ("name", "text", "replacement", "complaint"),
    [
        (
            "compile.m",
            "[model unloadWithQoS:",
            "[model unloadWithQos:",
            "instance method '-unloadWithQos:error:' not found",
        ),
        ("compile.m", "inMemoryModelWithDescriptor:descriptor", "inMemoryModelWithDesctiptor:descriptor", "not found"),
        ("framework.m", "@selector(hexStringIdentifier)", "@selector(hexIdentifier)", "undeclared selector"),
        ("compile.m", "options:@{} error", 'options:"" error', "incompatible pointer types"),
        (
            "request.m",
            "procedureIndex:parts.procedure_index",
            'procedureIndex:@"0"',
            "incompatible pointer types",
        ),
        ("surface.m", "IOSurfaceGetAllocSize(", "IOSurfaceGetSize(", "undeclared function 'IOSurfaceGetSize'"),
    ],
)
def test_a_mistake_is_a_compile_error(
    changed: Callable[[str, str, str], str], name: str, text: str, replacement: str, complaint: str
) -> None:
    assert complaint in changed(name, text, replacement)


@pytest.mark.parametrize("call", ["CFMakeCollectable", "cblas_dgemm", "anetrain_forgotten"])
def test_an_unlisted_symbol_is_a_link_error(tmp_path: Path, call: str) -> None:
    source = tmp_path / "cpu" / "stray.c"
    source.parent.mkdir()
    source.write_text(f"void {call}(void);\nvoid stray(void);\nvoid stray(void) {{ {call}(); }}\n")
    assert f"undefined symbol: _{call}" in check_macos.check(tmp_path, "arm64", tmp_path)
