"""Downloads against a server of our own: what breaks off goes on, what is wrong is not kept."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain.data import download as module
from anetrain.data.download import LLAMA2_TOKENIZER, TINY_STORIES, Source, download, extract
from anetrain.data.errors import DataError
from tests.support import need

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FAST: dict[str, Any] = {"pause_s": 0.0, "timeout_s": 5.0}


class Server(ThreadingHTTPServer):
    """Serves `content`; `script` says, request by request, what goes wrong."""

    content, tag = CONTENT, '"one"'
    linked = ""
    """SHA-256 that the redirect from /moved tells."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[str] = []
        self.requests: list[dict[str, str]] = []

    def source(self, path: str = "/file.bin?x=1", **known: Any) -> Source:
        return Source(f"http://127.0.0.1:{self.server_address[1]}{path}", **known)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/file.bin")
            self.send_header("X-Linked-Etag", f'"{server.linked}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        server.requests.append(dict(self.headers))
        trouble = server.script.pop(0) if server.script else ""
        if trouble.isdigit():
            self.send_error(int(trouble))
            return
        total, begin = len(server.content), 0
        wanted = self.headers.get("Range")
        if wanted and self.headers.get("If-Range") == server.tag and trouble != "no ranges":
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if begin >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.end_headers()
                return
            self.send_response(206)
            shown = 7 if trouble == "other range" else begin
            self.send_header("Content-Range", f"bytes {shown}-{total - 1}/{total}")
        else:
            self.send_response(200)
        if trouble != "no tag":
            self.send_header("ETag", server.tag)
        self.send_header("Content-Length", str(total - begin))
        self.end_headers()
        end = begin + 100_000 if trouble == "break" else total
        self.wfile.write(server.content[begin:end])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "_BLOCK", 1 << 15)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    source = server.source(sha256=SHA256, size=len(CONTENT))
    path = download(source, tmp_path / "new", progress=lambda *at: heard.append(at), **FAST)
    assert path == tmp_path / "new" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert heard[-1] == (len(CONTENT), len(CONTENT))
    assert heard == sorted(heard)
    assert download(source, path.parent, **FAST) == path
    assert len(server.requests) == 1, "what is there is not fetched again"


@pytest.mark.parametrize("script", [["break", "break"], ["503", "break", "500"], ["break", "no ranges"]])
def test_what_breaks_off_goes_on(server: Server, tmp_path: Path, script: list[str]) -> None:
    server.script = list(script)
    path = download(server.source(sha256=SHA256), tmp_path, **FAST)
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]
    if script == ["break", "break"]:
        assert [request.get("Range") for request in server.requests] == [None, "bytes=100000-", "bytes=200000-"]


def test_another_run_goes_on(server: Server, tmp_path: Path) -> None:
    server.script = ["break"]
    with pytest.raises(DataError, match=r"ended early, 1 times.*file\.bin\.part; the same command goes on"):
        download(server.source(), tmp_path, attempts=1, **FAST)
    assert (tmp_path / "file.bin.part").stat().st_size == 100_000
    heard: list[tuple[int, int]] = []
    assert download(server.source(), tmp_path, progress=lambda *at: heard.append(at), **FAST).read_bytes() == CONTENT
    assert heard[0][0] > 100_000
    assert server.requests[-1]["Range"] == "bytes=100000-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.script = ["break"]
    with pytest.raises(DataError):
        download(server.source(), tmp_path, attempts=1, **FAST)
    server.content, server.tag = CONTENT[::-1], '"two"'
    assert download(server.source(), tmp_path, **FAST).read_bytes() == CONTENT[::-1]


def test_without_a_strong_tag_it_begins_anew(server: Server, tmp_path: Path) -> None:
    server.script = ["break"]
    server.tag = 'W/"weak"'
    with pytest.raises(DataError):
        download(server.source(), tmp_path, attempts=1, **FAST)
    assert download(server.source(), tmp_path, **FAST).read_bytes() == CONTENT
    assert "Range" not in server.requests[-1]


def test_a_part_that_is_whole_already(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    (tmp_path / "file.bin.part.tag").write_text(server.tag)
    assert download(server.source(sha256=SHA256), tmp_path, **FAST).read_bytes() == CONTENT


@pytest.mark.parametrize("trouble", ["too long", "other range"])
def test_a_part_that_does_not_fit_is_dropped(server: Server, tmp_path: Path, trouble: str) -> None:
    part = b"x" * (len(CONTENT) + 1) if trouble == "too long" else CONTENT[:50]
    (tmp_path / "file.bin.part").write_bytes(part)
    (tmp_path / "file.bin.part.tag").write_text(server.tag)
    server.script = [trouble]
    assert download(server.source(), tmp_path, **FAST).read_bytes() == CONTENT


def test_wrong_content_is_not_kept(server: Server, tmp_path: Path) -> None:
    for known, message in (({"sha256": "ab" * 32}, "SHA-256"), ({"size": 5}, "bytes 300000; expected 5")):
        with pytest.raises(DataError, match=message):
            download(server.source(**known), tmp_path, **FAST)
        assert not list(tmp_path.iterdir())
    (tmp_path / "file.bin").write_bytes(b"short")
    with pytest.raises(DataError, match=r"file\.bin: bytes 5; expected 300000"):
        download(server.source(size=300_000), tmp_path, **FAST)


def test_the_servers_own_checksum(server: Server, tmp_path: Path) -> None:
    server.linked = SHA256
    assert download(server.source("/moved/a.bin"), tmp_path, **FAST).name == "a.bin"
    server.linked = "ab" * 32
    with pytest.raises(DataError, match="SHA-256"):
        download(server.source("/moved/b.bin"), tmp_path, **FAST)


def test_errors_of_server_and_network(server: Server, tmp_path: Path) -> None:
    server.script = ["404"]
    with pytest.raises(DataError, match=r"file\.bin.*answers 404"):
        download(server.source(), tmp_path, **FAST)
    assert len(server.requests) == 1, "what is not there will not be there in two seconds"
    server.script = ["503"] * 3
    with pytest.raises(DataError, match="answers 503"):
        download(server.source(), tmp_path, attempts=3, **FAST)
    with pytest.raises(DataError, match=r"refused, 2 times\. Is there a network"):
        download(Source("http://127.0.0.1:9/file.bin"), tmp_path, attempts=2, **FAST)


def test_a_full_disk(server: Server, tmp_path: Path) -> None:
    need(Path("/dev/full").exists(), "/dev/full")
    (tmp_path / "file.bin.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"file\.bin\.part: No space left on device; make room"):
        download(server.source(), tmp_path, **FAST)
    assert len(server.requests) == 1


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_shards_of_an_archive(tmp_path: Path) -> None:
    tar = archive(
        tmp_path / "a.tar.gz",
        {"x/data01.bin": b"11", "x/readme": b"r", "../../data00.bin": b"00", "x/._data00.bin": b"mac"},
    )
    (tmp_path / "out").mkdir()
    paths = extract(tar, tmp_path / "out")
    assert [(path.name, path.read_bytes()) for path in paths] == [("data00.bin", b"00"), ("data01.bin", b"11")]
    assert {path.parent for path in paths} == {tmp_path / "out"}
    with pytest.raises(FileExistsError):
        extract(tar, tmp_path / "out")
    assert len(extract(tar, tmp_path / "out", r"data00\.bin", overwrite=True)) == 1
    with pytest.raises(DataError, match=r"a\.tar\.gz: no file in it"):
        extract(tar, tmp_path / "out", "other")


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:200], lambda data: b"no archive"])
def test_damaged_archives(tmp_path: Path, damage: Any) -> None:
    content = np.random.default_rng(1).bytes(50_000)
    tar = archive(tmp_path / "a.tar.gz", {"data00.bin": content, "data01.bin": content})
    tar.write_bytes(damage(tar.read_bytes()))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"a\.tar\.gz: not a whole archive"):
        extract(tar, tmp_path / "out")
    assert all(path.stat().st_size == 50_000 for path in (tmp_path / "out").iterdir())


def test_the_known_sources() -> None:
    for source in (*TINY_STORIES.values(), *LLAMA2_TOKENIZER.values()):
        assert source.url.startswith("https://")
        assert source.name.split(".")[-1] in ("txt", "gz", "model", "bin")
        assert source.sha256 is None or len(bytes.fromhex(source.sha256)) == 32
