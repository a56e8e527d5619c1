"""Tokenizers of every family that behaves in its own way, trained in the test run on a few sentences."""

import json
import multiprocessing
import os
from collections.abc import Callable
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
        "yayi_data.pipeline",
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
