"""Tokenizers of every family that behaves in its own way, trained in the test run on a few sentences."""

import json
import logging
import multiprocessing
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")

# What the processes that tests start import, some ten seconds of it: imported once, and inherited by forks.
os.environ.setdefault("OMP_NUM_THREADS", "1")
multiprocessing.get_context("forkserver").set_forkserver_preload(
    [
        "pytest",
        "rich.console",
        "yayi_data.parts",
        "yayi_train.build",
        "deepspeed.runtime.zero.muon.muon_optimizer",
        "torch.utils.tensorboard",
        "transformers.models.llama.modeling_llama",
    ]
)

CORPUS = [
    "你好，世界。我是雅意，很高兴认识你！\n\n请问有什么可以帮您？",
    "【金融领域任务】帮我写一封邮件：\n尊敬的客户，\n\n您好。",
    "Hello world, I'm a helpful assistant. It's 2023-06-01:\n\n1. one\n2. two\n",
    "def f(x):\n    return x + 1\n\n\n# 注释  结束",
    "<|Human|>:\nA chat between a human and an AI assistant named YaYi.\n\n<|YaYi|>:\nYes.\n\n<|End|>",
    "naïve café Ångström e\u0301 한국어 🙂",
] * 4
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
BYTES = pre_tokenizers.ByteLevel.alphabet()


def _byte_level(
    split: Regex | None, normalizer: Any = None, special: tuple[str, ...] = ("</s>",)
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    splits = [pre_tokenizers.Split(split, "isolated")] if split else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, level]) if splits else level
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=BYTES, special_tokens=list(special), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_level() -> Tokenizer:
    return _byte_level(None)


def qwen() -> Tokenizer:
    tokenizer = _byte_level(Regex(QWEN), normalizers.NFC())
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    tokenizer.add_special_tokens(["<|late|>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def bloom() -> Tokenizer:
    return _byte_level(Regex(BLOOM), None, ("<unk>", "<s>", "</s>", "<pad>"))


def llama3() -> Tokenizer:
    tokenizer = _byte_level(Regex(QWEN), None, ("<|begin_of_text|>", "<|YaYi|>"))
    model: Any = tokenizer.model
    model.ignore_merges = True
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]
            ),
        ]
    )
    return tokenizer


def _sentencepiece(
    normalizer: Any, pre_tokenizer: Any, byte_fallback: bool = True, corpus: list[str] = CORPUS
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=byte_fallback))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    spelled = [f"<0x{byte:02X}>" for byte in range(256)] if byte_fallback else []
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>", "<s>", "</s>", *spelled],
        show_progress=False,
        limit_alphabet=90,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer = _without_added(tokenizer.to_str(), set(spelled))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def _without_added(content: str, names: set[str]) -> Tokenizer:
    parsed = json.loads(content)
    parsed["added_tokens"] = [token for token in parsed["added_tokens"] if token["content"] not in names]
    return Tokenizer.from_str(json.dumps(parsed))


def llama2() -> Tokenizer:
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    return _sentencepiece(normalizers.Sequence(steps), None)


def metaspace_first() -> Tokenizer:
    return _sentencepiece(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False))


def metaspace_always() -> Tokenizer:
    return _sentencepiece(None, pre_tokenizers.Metaspace(prepend_scheme="always"))


def no_fallback() -> Tokenizer:
    """Characters beyond the alphabet become <unk>, a run of them a single one."""
    return _sentencepiece(None, pre_tokenizers.Metaspace(prepend_scheme="always"), byte_fallback=False)


def unknown_newline() -> Tokenizer:
    """It cannot spell the newline that ends a header, and joins it with what it cannot spell after it."""
    return _sentencepiece(
        normalizers.Replace(" ", "▁"),
        None,
        byte_fallback=False,
        corpus=[line.replace("\n", " ") for line in CORPUS],
    )


def unigram() -> Tokenizer:
    """Its vocabulary spells <s> and </s> itself, and two control tokens of the template."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    names = ["<unk>", "<s>", "</s>", "<|YaYi|>", "<|End|>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=names, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return tokenizer


def spelled_control() -> Tokenizer:
    """Byte-level, its merges spell <|YaYi|> and <|End|>: trained on rendered text without special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=BYTES, show_progress=False)
    tokenizer.train_from_iterator(["<|YaYi|>", "<|End|>"] * 50 + CORPUS, trainer)
    return tokenizer


def collapse() -> Tokenizer:
    """It makes one blank of a run of blanks, so that a header's line break and a reply's become one token."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def prefix_space() -> Tokenizer:
    """Byte-level with a blank before every text, as RoBERTa's."""
    tokenizer = byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    make.__name__: make
    for make in (
        byte_level,
        qwen,
        bloom,
        llama3,
        llama2,
        metaspace_first,
        metaspace_always,
        no_fallback,
        unknown_newline,
        unigram,
        spelled_control,
        collapse,
        prefix_space,
    )
}


@pytest.fixture(scope="session")
def families() -> dict[str, str]:
    """The tokenizer.json text of every family."""
    return {name: make().to_str() for name, make in FAMILIES.items()}


@pytest.fixture(scope="session", name="byte_level")
def byte_level_folder(families: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small byte-level tokenizer that lacks the control tokens."""
    return _saved(families["byte_level"], tmp_path_factory.mktemp("byte-level"))


@pytest.fixture(scope="session", name="llama_style")
def llama_style_folder(families: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small Llama-2-style tokenizer: byte fallback, a prepended blank, BOS first."""
    return _saved(families["llama2"], tmp_path_factory.mktemp("llama-style"))


def _saved(content: str, folder: Path) -> Path:
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real corpora and tokenizers beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("YAYI_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: real tokenizers are not here")
    return folder


@cache
def _moto() -> Any:
    from moto.server import DomainDispatcherApplication, create_backend_app

    return DomainDispatcherApplication(create_backend_app)


@cache
def _backend() -> Any:
    from moto.s3.models import s3_backends

    return s3_backends["123456789012"]["aws"]


class Storage:
    """A real S3 server on this machine (moto's) with one bucket, which can be told to fail.

    `fault` sees every request (method, path) and may answer "503", "reset" (the connection ends without an
    answer) or "cut" (it ends in the middle of the body); `seen` lists the requests; `watch` is called after
    each one that was answered.
    """

    key = "known-key"
    secret = "TOP-SECRET-0123456789"

    def __init__(self, bucket: str) -> None:
        self._app = _moto()
        self.bucket = bucket
        self.url = f"s3://{bucket}"
        self.port = 0
        self.fault: Callable[[str, str], str | None] = lambda method, path: None
        self.watch: Callable[[], None] = lambda: None
        self.seen: list[tuple[str, str]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.seen.append((method, path))
        if self.key not in environ.get("HTTP_AUTHORIZATION", "") + environ["QUERY_STRING"]:
            told = b"<Error><Code>InvalidAccessKeyId</Code><Message>%s</Message></Error>" % path.encode()
            told = b"" if method == "HEAD" else told
            start_response(
                "403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(told)))]
            )
            return [told]
        fault = self.fault(method, path)
        if fault == "503":
            start_response("503 Slow Down", [("Content-Length", "0")])
            return []
        if fault == "reset":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        body = b"".join(self._app(environ, start_response))
        self.watch()
        return [body[: len(body) // 2]] if fault == "cut" else [body]

    def start(self) -> None:
        """Listen, on the same port as before."""
        from werkzeug.serving import make_server

        self._server = make_server("127.0.0.1", self.port, self, threaded=True)
        self.port = self._server.port
        self._listening = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._listening:
            self._listening = False
            self._server.shutdown()
            self._server.server_close()

    def die(self) -> str:
        """Stop in the middle of a request, and return the fault to answer it with."""
        self.stop()
        return "reset"

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Return what is under a prefix, by name relative to it, past the server's door."""
        keys = _backend().buckets[self.bucket].keys
        start = f"{prefix}/"
        return {name[len(start) :]: key.value for name, key in keys.items() if name.startswith(start)}

    def put(self, name: str, data: bytes) -> None:
        """Store an object past the server's door."""
        _backend().put_object(self.bucket, name, data)

    def keep_versions(self) -> None:
        """Keep what is overwritten, as versions."""
        _backend().put_bucket_versioning(self.bucket, "Enabled")

    def version(self, name: str) -> str:
        """Return the version of an object that is there now."""
        return str(_backend().buckets[self.bucket].keys[name].version_id)

    def make_bucket(self) -> None:
        """Make the bucket."""
        _backend().create_bucket(self.bucket, "us-east-1")


def forget() -> None:
    """Forget the connections, which are to the server and with the credentials of another test."""
    import fsspec

    from yayi_data.remote.files import s3_client

    s3_client.cache_clear()
    for known in {"s3", "http"} & set(fsspec.registry):
        fsspec.registry[known].clear_instance_cache()


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """An S3 server, and an environment in which it is the one that is asked; the cache is `tmp_path`/cache."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    storage = Storage(f"bucket-{secrets.token_hex(4)}")
    storage.start()
    storage.make_bucket()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{storage.port}",
        "AWS_ACCESS_KEY_ID": storage.key,
        "AWS_SECRET_ACCESS_KEY": storage.secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "2",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
        "YAYI_CACHE": str(tmp_path / "cache"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    forget()
    yield storage
    storage.stop()
    forget()
