import json
import os
from pathlib import Path

import pytest
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [
    "你是谁?我是雅意,由中科闻歌研发的语言模型。",
    "【媒宣领域任务】请写一则新闻标题。",
    "城市治理需要数据,舆情分析需要判断。\n\n第一,核实来源;第二,回应关切。",
    "A chat between a human and an AI assistant named YaYi.",
    "You are a helpful, respectful and honest assistant.",
]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real inputs beside the checkout; what needs it is skipped where it is absent."""
    folder = Path(os.environ.get("YAYI_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"the real inputs are absent: no folder {folder}")
    return folder


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small byte-level BPE tokenizer, as bloom and Qwen have it; it adds no tokens of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return _saved(tokenizer, tmp_path_factory.mktemp("byte-level"))


@pytest.fixture(scope="session")
def llama_style(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small Llama-2-style tokenizer: byte fallback, a prepended blank, BOS before each text."""
    from tokenizers.processors import TemplateProcessing

    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=800, special_tokens=special + bytes_, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    folder = _saved(tokenizer, tmp_path_factory.mktemp("llama-style"))
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] = content["added_tokens"][: len(special)]  # byte tokens are vocabulary, not added
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False))
    return folder


def _saved(tokenizer: Tokenizer, folder: Path) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
