"""Tokenizers: the same ids and texts as the libraries that define them, on text that is hard to get right."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anetrain.data.errors import DataError
from anetrain.data.tokenizers import Tokenizer, chat, load, scored, sentence
from anetrain.data.tokenizers.hugging_face import HuggingFaceTokenizer
from anetrain.data.tokenizers.scored import ScoredTokenizer
from anetrain.data.tokenizers.sentence import SentencePieceTokenizer
from tests.support import need

ROOT = Path(__file__).parents[1]
HARD = [
    "",
    " ",
    "   ",
    "a",
    " a",
    "a ",
    "  two  spaces  ",
    "\n\n\t\r\n",
    'Once upon a time, there was a little girl.\n\n"Hello!" she said.',
    "don't can't it's",
    "123 4567 8.9",
    "naïve café Å e\u0301 a\u0308\u0323 \u0301",  # composed, combining, a mark alone
    "😀 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪",
    "日本語のテキスト 한국어 العربية עברית हिन्दी ไทย",
    "\u200b\u200d\ufeff\u00a0\u3000\u2028",
    "\ufffd\ufffe\U0010ffff",
    "<s> </s> <unk> <0x41> <|im_start|>",
    "x" * 300,
    "\x00\x01\x7f\x80",
    "aaaaaaaaaaaaab bbbbbbbbbba ababababab",
]


def fuzz(count: int, seed: int = 0) -> list[str]:
    """Mixes of words, of the hard texts, and of any characters."""
    choose = random.Random(seed)
    words = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split(" ")

    def part() -> str:
        kind = choose.random()
        if kind < 0.5:
            return " ".join(choose.choices(words, k=choose.randint(1, 8)))
        if kind < 0.7:
            return choose.choice(HARD)
        if kind < 0.9:
            return "".join(choose.choices("ab  \n.'é😀", k=choose.randint(1, 20)))
        code = choose.choice([choose.randrange(0x80), choose.randrange(0x3000), choose.randrange(0x110000)])
        return "?" if 0xD800 <= code < 0xE000 else chr(code)

    return HARD + ["".join(part() for _ in range(choose.randint(1, 5))) for _ in range(count)]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    """Trained on the documentation: of Llama 2's kind."""
    path = tmp_path_factory.mktemp("sentencepiece") / "tokenizer.model"
    return sentence.train((page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))), path, vocab=700)


@pytest.fixture(scope="session")
def exported(model: SentencePieceTokenizer, tmp_path_factory: pytest.TempPathFactory) -> ScoredTokenizer:
    path = tmp_path_factory.mktemp("bin") / "tokenizer.bin"
    scored.write(path, model.bin_pieces())
    return scored.read(path)


def oracle(name: str) -> Any:
    need(importlib.util.find_spec(name), name)
    return importlib.import_module(name)


def library(model: SentencePieceTokenizer) -> Any:
    return model._model


# ---------------------------------------------------------------- sentencepiece and tokenizer.bin


def test_bin_encodes_as_sentencepiece(model: SentencePieceTokenizer, exported: ScoredTokenizer) -> None:
    texts = fuzz(1500)
    for text in texts:
        assert exported.encode(text) == library(model).encode(text), text
    assert any(scored.FIRST_BYTE <= token < scored.FIRST_TEXT for text in texts for token in exported.encode(text))


def test_decoding_is_that_of_sentencepiece(model: SentencePieceTokenizer, exported: ScoredTokenizer) -> None:
    """Ids of texts, and ids that no text has: bytes that are no UTF-8, special tokens, spaces at the begin."""
    choose = random.Random(1)
    for text in fuzz(300):
        ids = exported.encode(text, bos=True, eos=True)
        assert exported.decode(ids) == model.decode(ids) == library(model).decode(ids)
    bytes_of_characters = [list("é😀日\u0301".encode()[at:]) for at in range(8)]
    for _ in range(3000):
        ids = []
        for _ in range(choose.randint(1, 6)):
            kind = choose.random()
            if kind < 0.4:
                ids.append(choose.randrange(model.vocab))
            elif kind < 0.6:
                ids.append(scored.FIRST_BYTE + choose.choice([0x41, 0x80, 0xBF, 0xC3, 0xE2, 0xED, 0xF0, 0xF4, 0xFF]))
            elif kind < 0.8:
                ids += [scored.FIRST_BYTE + byte for byte in choose.choice(bytes_of_characters)[: choose.randint(1, 5)]]
            else:
                ids.append(choose.choice([0, 1, 2, *model.encode(" "), *model.encode("a")]))
        assert exported.decode(ids) == library(model).decode(ids), ids


def test_every_text_comes_back(model: SentencePieceTokenizer, exported: ScoredTokenizer) -> None:
    for text in fuzz(300):
        for tokenizer in (model, exported):
            assert tokenizer.decode(tokenizer.encode(text)) == text.replace("\u2581", " ")


@pytest.mark.parametrize("prefix", [" ", ""])
def test_byte_pieces_come_as_whole_characters(exported: ScoredTokenizer, prefix: str) -> None:
    stream = exported.stream()
    given = [stream.push(scored.FIRST_BYTE + byte) for byte in f"{prefix}é😀".encode()]
    assert given == [*prefix, "", "é", "", "", "", "😀"]
    assert stream.push(scored.FIRST_BYTE + 0xF0) == ""
    assert stream.finish() == "\ufffd"


def test_model_and_bin_are_one_tokenizer(model: SentencePieceTokenizer, exported: ScoredTokenizer) -> None:
    assert model.hash == exported.hash
    assert len(bytes.fromhex(model.hash)) == 32
    assert (model.vocab, model.bos, model.eos) == (exported.vocab, exported.bos, exported.eos) == (700, 1, 2)
    assert exported.encode("a", bos=True, eos=True) == [1, *exported.encode("a"), 2]
    changed = ScoredTokenizer([*model.bin_pieces()[:-1], (b"zzz", -1.0)])
    assert changed.hash != exported.hash


def test_the_published_bin_layout() -> None:
    """tokenizer.bin of llama2.c begins so: bytes of the longest piece, then score, length and text of each."""
    pieces = [*((name, 0.0) for name in scored.NAMES), (b" a", -1.0), (b"a", -2.0)]
    data = scored.to_bin(pieces)
    assert data[:17] == bytes.fromhex("06000000 00000000 05000000") + b"<unk>"
    assert data[17:30] == bytes(4) + bytes.fromhex("05000000") + b"\n<s>\n"
    assert data[-9:] == bytes.fromhex("000000c0 01000000") + b"a"
    assert scored.from_bin(data, "x") == pieces


def test_joins_by_score_then_left_to_right() -> None:
    pieces = [(name, 0.0) for name in scored.NAMES]
    pieces += [(text.encode(), score) for text, score in (("ab", -1), ("bc", -1), ("aa", -3), ("cab", -0.5), ("a", -9))]
    tokenizer = ScoredTokenizer(pieces)
    space, ab, bc, aa, cab, a = 3 + 32, *range(259, 264)
    b, c = 3 + ord("b"), 3 + ord("c")
    assert tokenizer.encode("abc") == [space, ab, c]
    assert tokenizer.encode("bcab") == [space, bc, ab]  # the left one of two with the same score
    assert tokenizer.encode("ccab") == [space, c, cab]
    assert tokenizer.encode("aaa") == [space, aa, a]
    assert tokenizer.encode("b") == [space, b]
    assert ScoredTokenizer([*pieces, (b"ab", 0.0)]).encode("ab") == [space, ab], "of two equal pieces the first"


def test_pieces_over_several_words() -> None:
    pieces = [(name, 0.0) for name in scored.NAMES]
    pieces += [(text.encode(), score) for text, score in ((" a", -1), ("a b", -2), (" a b", -3), ("a ", -4))]
    tokenizer = ScoredTokenizer(pieces)
    assert tokenizer.encode("a") == [259]
    assert tokenizer.encode("a ba") == [259, 3 + 32, 3 + ord("b"), 3 + ord("a")]
    assert ScoredTokenizer([*pieces[:259], (b"a ", -1.0), (b"a b", -2.0)]).encode("a ba") == [35, 260, 3 + ord("a")]


# ---------------------------------------------------------------- tokenizer.json


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json built as Qwen's: NFC, its pattern, byte-level BPE, special tokens; and its configuration."""
    import tokenizers
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    pattern += r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train([str(path) for path in sorted((ROOT / "docs").glob("*.md"))], trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<think>", "</think>"])
    folder = tmp_path_factory.mktemp("json")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"bos_token": None, "eos_token": {"content": "<|im_end|>"}, "tokenizer_class": "Qwen2Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_json_is_that_of_the_library(byte_level: Path) -> None:
    import unicodedata

    import tokenizers

    ours = load(byte_level)
    theirs = tokenizers.Tokenizer.from_file(str(byte_level / "tokenizer.json"))
    assert (ours.vocab, ours.bos, ours.eos) == (605, None, theirs.token_to_id("<|im_end|>"))
    for text in fuzz(500):
        assert ours.encode(text, special=True) == theirs.encode(text).ids, text
        assert ours.decode(ours.encode(text)) == unicodedata.normalize("NFC", text)
    choose = random.Random(2)
    for _ in range(1000):
        ids = choose.choices(range(ours.vocab), k=choose.randint(1, 12))
        assert ours.decode(ids) == theirs.decode(ids), ids


def test_the_hash_is_of_content_not_of_layout(byte_level: Path, tmp_path: Path) -> None:
    content = json.loads((byte_level / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(dict(reversed(content.items())), indent=1))
    assert load(tmp_path).hash == load(byte_level).hash
    content["added_tokens"].pop()
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert load(tmp_path).hash != load(byte_level).hash


def test_names_of_special_tokens_are_text_unless_asked_for(byte_level: Path) -> None:
    tokenizer = load(byte_level)
    end = tokenizer.eos
    assert end in tokenizer.encode("<|im_end|>", special=True)
    assert end not in tokenizer.encode("<|im_end|>")
    assert tokenizer.decode(tokenizer.encode("<|im_end|>")) == "<|im_end|>"
    assert tokenizer.encode("a", eos=True)[-1] == end == tokenizer.document_start
    named = HuggingFaceTokenizer(byte_level / "tokenizer.json", bos="<|endoftext|>")
    assert named.document_start == named.bos != end
    with pytest.raises(DataError, match="has no token '<nowhere>'"):
        HuggingFaceTokenizer(byte_level / "tokenizer.json", bos="<nowhere>")
    with pytest.raises(DataError, match="no bos token"):
        tokenizer.encode("a", bos=True)


def test_llama_json_streams_with_its_spaces(model: SentencePieceTokenizer, tmp_path: Path) -> None:
    """A decoder of several steps, one of which takes the first space of a text away: Llama's tokenizer.json."""
    import tokenizers
    from tokenizers import decoders, models, normalizers

    pieces = model.bin_pieces()
    vocab = {text.decode().replace(" ", "\u2581"): at for at, (text, _) in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, [], byte_fallback=True))
    tokenizer.normalizer = normalizers.Prepend("\u2581")
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ours = load(tmp_path / "tokenizer.json")
    for text in fuzz(100):
        ids = model.encode(text)
        assert ours.decode(ids) == tokenizer.decode(ids)
    choose = random.Random(4)
    bytes_of_characters = [list("é😀日\u0301".encode()[at:]) for at in range(8)]
    for _ in range(2000):  # bytes that are no UTF-8, whole characters in bytes, other pieces
        ids = []
        for _ in range(choose.randint(1, 5)):
            kind = choose.random()
            if kind < 0.4:
                ids += [scored.FIRST_BYTE + byte for byte in choose.choice(bytes_of_characters)[: choose.randint(1, 5)]]
            elif kind < 0.6:
                ids.append(scored.FIRST_BYTE + choose.randrange(256))
            else:
                ids.append(choose.randrange(scored.FIRST_TEXT, model.vocab))
        assert ours.decode(ids) == tokenizer.decode(ids), ids


# ---------------------------------------------------------------- chat

TALKS = [
    [("user", "Hi")],
    [("system", "Be short."), ("user", "Hi\n"), ("assistant", "Hello."), ("user", "\nWho?")],
    [
        ("user", "a"),
        ("assistant", "<think>\nwell\n\n</think>\n\nb"),
        ("user", "c"),
        ("assistant", "<think>\nd</think>e"),
    ],
    [("user", "a"), ("assistant", "b"), ("assistant", "<think>x</think>\n\n\nc"), ("assistant", "\n\nd")],
    [("assistant", "first"), ("system", "late"), ("user", "q")],
    [("system", "alone")],
    [("assistant", "<think>one</think>two</think>three")],
]


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("thinking", [True, False])
def test_chat_is_the_published_template(talk: list[tuple[str, str]], thinking: bool) -> None:
    """Rendered by jinja2 as transformers does: the part of Qwen3's template without tools."""
    jinja2 = oracle("jinja2")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    template = (ROOT / "tests" / "golden" / "qwen3_chat.jinja").read_text()
    messages = [{"role": role, "content": content} for role, content in talk]
    for answer in (True, False):
        expected = environment.from_string(template).render(
            messages=messages, add_generation_prompt=answer, enable_thinking=thinking
        )
        assert chat.qwen3(messages, thinking=thinking, answer=answer) == expected


def test_chat_ids(byte_level: Path, model: SentencePieceTokenizer) -> None:
    tokenizer = load(byte_level)
    messages = [{"role": "user", "content": "Hi"}]
    ids = tokenizer.chat(messages, thinking=False)
    assert ids.count(tokenizer.eos) == 1
    assert tokenizer.decode(ids) == "user\nHi\nassistant\n<think>\n\n</think>\n\n"
    with pytest.raises(DataError, match="has no chat template"):
        model.chat(messages)
    for wrong, message in (
        ([], "no message"),
        ([{"role": "tool", "content": "x"}], "role 'tool'"),
        ([{}], "role None"),
    ):
        with pytest.raises(DataError, match=message):
            tokenizer.chat(wrong)


# ---------------------------------------------------------------- what is wrong


def good_bin() -> bytes:
    return scored.to_bin([*((name, 0.0) for name in scored.NAMES), (b"ab", -1.0)])


def with_piece(at: int, text: bytes) -> bytes:
    pieces = scored.from_bin(good_bin(), "x")
    pieces[at] = (text, 0.0)
    return scored.to_bin(pieces)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("t.bin", b"", "0 bytes; expected a tokenizer.bin"),
        ("t.bin", good_bin()[:-1], r"piece 259 .* does not fit"),
        ("t.bin", good_bin()[:-5], r"piece 259 .* does not fit"),
        ("t.bin", good_bin() + b"\0", r"piece 260 .* does not fit"),
        ("t.bin", bytes(5000), "piece 624 .* does not fit"),
        ("t.bin", b"\xff" * 5000, "piece 0 .* does not fit"),
        ("t.bin", with_piece(5, b"\x02"), r"piece 5 is b'\\x02'; expected b'<0x02>'"),
        ("t.bin", with_piece(259, b"\xe2\x82"), "is not UTF-8"),
        ("t.bin", b"\x07" + good_bin()[1:], "no piece is as long"),
        ("t.bin", scored.to_bin([(name, 0.0) for name in scored.NAMES]), "259 pieces; expected more than 259"),
        ("t.model", b"", "an empty file"),
        ("t.model", b"not a model", "sentencepiece cannot read it"),
        ("t.json", b"", "not JSON"),
        ("t.json", b"[]", "expected a JSON object, found list"),
        ("t.json", b"{}", "the tokenizers library cannot read it"),
        ("t.txt", b"", "ends in .model, .bin or .json"),
    ],
)
def test_what_is_damaged_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_what_is_not_there(tmp_path: Path, exported: ScoredTokenizer) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        load(tmp_path / "tokenizer.model")
    with pytest.raises(DataError, match="holds no tokenizer"):
        load(tmp_path)
    for token in (-1, 700):
        with pytest.raises(DataError, match=f"id {token} is not the tokenizer's"):
            exported.decode([token])
    with pytest.raises(DataError, match="character 1 of the text"):
        exported.encode("a\udc80")


def test_models_that_no_bin_can_express(tmp_path: Path, model: SentencePieceTokenizer) -> None:
    import io

    import sentencepiece

    lines = (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    usual = {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity"}
    usual |= {"remove_extra_whitespaces": False, "vocab_size": 400, "minloglevel": 2, "num_threads": 1}
    for change, message in (
        ({"model_type": "unigram"}, "not a BPE model"),
        ({"byte_fallback": False, "vocab_size": 300}, "not the pieces of the 256 bytes"),
        ({"normalization_rule_name": "nmt_nfkc"}, "normalises characters"),
        ({"remove_extra_whitespaces": True}, "removes spaces"),
        ({"add_dummy_prefix": False}, "one space before"),
        ({"add_dummy_prefix": False, "remove_extra_whitespaces": True}, "removes spaces"),
        ({"treat_whitespace_as_suffix": True}, "one space before"),
        ({"bos_id": -1}, r"ids \(0, -1, 2\)"),
        ({"control_symbols": ["<pad>"], "pad_id": 3}, "bytes"),
    ):
        data = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=data, **usual | change)
        path = tmp_path / "other.model"
        path.write_bytes(data.getvalue())
        other = SentencePieceTokenizer(path)
        with pytest.raises(DataError, match=message):
            other.bin_pieces()
        theirs = library(other)
        for text in fuzz(60):
            ids = other.encode(text)
            assert ids == theirs.encode(text)
            assert other.decode(ids) == theirs.decode(ids), (change, text)
        choose = random.Random(3)
        for _ in range(300):
            spaces = [theirs.piece_to_id("\u2581")] * choose.randint(0, 3)
            ids = [1][: choose.randint(0, 1)] * (other.bos == 1) + spaces + choose.choices(range(other.vocab), k=3)
            assert other.decode(ids) == theirs.decode(ids), (change, ids)


def test_libraries_are_imported_when_they_are_needed() -> None:
    code = (
        "import anetrain.data.prepare, anetrain.data.tokenizers as t, sys; t.builtin_tokenizer(); print(*sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert not {"sentencepiece", "tokenizers", "transformers"} & set(found.stdout.split())


def test_training_is_repeatable_and_refuses(tmp_path: Path, model: SentencePieceTokenizer) -> None:
    texts = ["one two three two one\n" * 20]
    first = sentence.train(texts, tmp_path / "1.model", vocab=275)
    second = sentence.train(texts, tmp_path / "2.model", vocab=275)
    assert first.hash == second.hash != model.hash
    with pytest.raises(DataError, match=r"3\.model: no tokenizer with 5000 pieces"):
        sentence.train(texts, tmp_path / "3.model", vocab=5000)
    with pytest.raises(ValueError, match="vocab is 259"):
        sentence.train(texts, tmp_path / "3.model", vocab=259)
    for wrong, message in (("a\0b", r"^'a\\x00b'\.\.\. holds a NUL"), ("\udc80", "^.*half of a surrogate pair")):
        for before in ([], texts):
            with pytest.raises(DataError, match=message):
                sentence.train([*before, wrong], tmp_path / "3.model", vocab=275)
    assert not (tmp_path / "3.model").exists()


def test_transformers_reads_the_same_json(byte_level: Path) -> None:
    transformers = oracle("transformers")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(byte_level / "tokenizer.json"))
    theirs.chat_template = (ROOT / "tests" / "golden" / "qwen3_chat.jinja").read_text()
    ours: Tokenizer = load(byte_level)
    for talk in TALKS:
        messages = [{"role": role, "content": content} for role, content in talk]
        for thinking in (True, False):
            text = theirs.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
            )
            assert ours.chat(messages, thinking=thinking) == theirs.encode(text, add_special_tokens=False)
