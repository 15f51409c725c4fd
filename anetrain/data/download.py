"""Downloads that go on where they stopped, and are checked.

archive = download(TINY_STORIES["tokens"], folder, progress=bar)
shards = extract(archive, folder)  # data00.bin, data01.bin, ...
"""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from anetrain import files
from anetrain.data.errors import DataError
from anetrain.data.shards import Progress

_STORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/f54c09fd23315a6f9c86f9dc80f725de7d8f9c64/"
_TOKENS = "https://huggingface.co/datasets/enio/TinyStories/resolve/main/tok32000/"
_LLAMA2C = "https://github.com/karpathy/llama2.c/raw/master/"
_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Source:
    """`sha256` and `size` are checked where they are known. Where they are not, Hugging Face tells its own SHA-256."""

    url: str
    sha256: str | None = None
    size: int | None = None

    @property
    def name(self) -> str:
        return PurePosixPath(urllib.parse.urlparse(self.url).path).name


LLAMA2_TOKENIZER: Mapping[str, Source] = {
    "tokenizer.model": Source(
        _LLAMA2C + "tokenizer.model", "9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347", 499_723
    ),
    "tokenizer.bin": Source(
        _LLAMA2C + "tokenizer.bin", "50a52ef822ee9e83de5ce9d0be0a025a773d019437f58b5ff9dcafb063ece361", 433_869
    ),
}
TINY_STORIES: Mapping[str, Source] = {
    "train": Source(
        _STORIES + "TinyStoriesV2-GPT4-train.txt",
        "6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443",
        2_227_753_162,
    ),
    "validation": Source(
        _STORIES + "TinyStoriesV2-GPT4-valid.txt",
        "6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d",
        22_502_601,
    ),
    "tokens": Source(_TOKENS + "TinyStories_tok32000.tar.gz"),
}
"""As text in two files, and as the published archive of 50 token shards (Llama 2's tokenizer, about 1 GB)."""


def download(
    source: Source,
    folder: Path,
    *,
    progress: Progress | None = None,
    attempts: int = 5,
    pause_s: float = 2.0,
    timeout_s: float = 60.0,
) -> Path:
    """The file, which is in `folder` when it is whole and right. What was fetched of it is kept in a file `.part`, also
    when this is interrupted, and fetched no more."""
    target = folder / source.name
    if target.exists():
        _check(target, target.stat().st_size, _sha256(target) if source.sha256 else None, source)
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = _Part(target)
    for attempt in range(1, attempts + 1):
        try:
            published = part.fetch(source, timeout_s, progress)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == attempts:
                raise DataError(f"{source.url}: the server answers {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.filename is not None:  # of the disk
                raise
            if attempt == attempts:
                raise DataError(
                    f"{source.url}: {getattr(error, 'reason', error)}, {attempts} times. Is there a network? What was "
                    f"fetched is in {part.path}; the same command goes on from there"
                ) from None
        time.sleep(pause_s * attempt)
    expected = Source(source.url, source.sha256 or published, source.size)
    try:
        _check(part.path, part.path.stat().st_size, _sha256(part.path) if expected.sha256 else None, expected)
    except DataError:
        part.remove()
        raise
    part.finish()
    return target


def extract(archive: Path, folder: Path, pattern: str = r"data\d+\.bin", *, overwrite: bool = False) -> list[Path]:
    """Files of a .tar.gz whose own name is of this pattern, put into `folder`, in the order of their names."""
    found = []
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                content = tar.extractfile(member) if member.isfile() and re.fullmatch(pattern, name) else None
                if content is not None:
                    with files.replacing(folder / name, overwrite=overwrite) as file:
                        shutil.copyfileobj(content, file, _BLOCK)
                    found.append(folder / name)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: not a whole archive ({error}); delete it and download it again") from None
    if not found:
        raise DataError(f"{archive}: no file in it has a name like {pattern}")
    return sorted(found)


class _Part:
    """The begin of a file, and what tells whether the rest that the server has belongs to it."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self.path = target.with_name(target.name + ".part")
        self._tag = target.with_name(target.name + ".part.tag")

    def fetch(self, source: Source, timeout_s: float, progress: Progress | None) -> str | None:
        """Gets what is missing; returns the SHA-256 that the server tells, if it does."""
        have = self.path.stat().st_size if self.path.exists() and self._tag.exists() else 0
        request = urllib.request.Request(source.url, headers={"User-Agent": "anetrain", "Accept-Encoding": "identity"})
        if have:
            request.add_header("Range", f"bytes={have}-")
            request.add_header("If-Range", self._tag.read_text())
        redirects = _Redirects()
        opener = urllib.request.build_opener(redirects)
        try:
            response = opener.open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            if error.code != 416:  # there is no rest
                raise
            if error.headers.get("Content-Range") != f"bytes */{have}":
                self.remove()
                raise ConnectionError("what was fetched does not fit what the server has; it was dropped") from None
            return redirects.sha256
        with response:
            if response.status != 206:
                have = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                self.remove()
                raise ConnectionError("the server sends another part than was asked for")
            length = response.headers.get("Content-Length")
            total = source.size or (have + int(length) if length else 0)
            self._remember(response.headers.get("ETag"))
            with self.path.open("ab" if have else "wb") as file:
                self._copy(response, file, have, total, progress)
            if length and self.path.stat().st_size < have + int(length):
                raise ConnectionError("the connection ended early")
            return redirects.sha256

    def finish(self) -> None:
        with self.path.open("rb") as file:
            files.sync(file.fileno())
        self.path.replace(self._target)
        self._tag.unlink(missing_ok=True)
        files.sync_folder(self._target.parent)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)

    def _remember(self, tag: str | None) -> None:
        """Only a strong tag stands for every byte."""
        if tag and not tag.startswith("W/"):
            self._tag.write_text(tag)
        else:
            self._tag.unlink(missing_ok=True)

    @staticmethod
    def _copy(response: IO[bytes], file: BinaryIO, done: int, total: int, progress: Progress | None) -> None:
        while block := response.read(_BLOCK):
            try:
                file.write(block)
            except OSError as error:
                raise DataError(f"{file.name}: {error.strerror}; make room, and the same command goes on") from None
            done += len(block)
            if progress is not None:
                progress(done, total)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Hugging Face names the SHA-256 of a file where it points to the file's place."""

    sha256: str | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        tag = (headers.get("X-Linked-Etag") or "").strip('"')
        if re.fullmatch(r"[0-9a-f]{64}", tag):
            self.sha256 = tag
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _check(path: Path, size: int, sha256: str | None, expected: Source) -> None:
    found: Any
    wanted: Any
    for what, found, wanted in (("bytes", size, expected.size), ("SHA-256", sha256, expected.sha256)):
        if wanted is not None and found != wanted:
            raise DataError(
                f"{path}: {what} {found}; expected {wanted} of {expected.url}. It is damaged, or another file: "
                "delete it and download again"
            )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
