"""Make the demo's tokenizer and model config from the example data: `python data/tiny/make.py [FOLDER]`.

Byte-level BPE with bloom's pattern, as YaYi-7B has it. The same data gives the same bytes.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TINY = Path(__file__).resolve().parent
VOCABULARY = 3584
BLOOM_PATTERN = r" ?[^(\s|[.,!?…。，、।۔،])]+"

SYSTEM = [
    "A chat between a human and an AI assistant named YaYi.\n"
    "YaYi is a helpful and harmless language model developed by Beijing Wenge Technology Co.,Ltd."
] * 20
"""The default system text, which most conversations begin with: often enough to become a few long tokens."""

MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "initializer_range": 0.1,  # 0.02 is sized for far wider models; from it, this one learns slowly
    "attention_bias": False,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "use_cache": True,
    "dtype": "float32",
}

TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
    "model_max_length": MODEL["max_position_embeddings"],
}


def main(folder: Path = TINY) -> None:
    """Write tokenizer.json, tokenizer_config.json and config.json into the folder."""
    tokenizer = train(list(texts()))
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    write(folder / "tokenizer_config.json", TOKENIZER_CONFIG)
    write(folder / "config.json", MODEL | {"vocab_size": tokenizer.get_vocab_size()})


def train(texts: list[str]) -> Tokenizer:
    """Train the tokenizer; it gets no special token, control tokens are the template's business."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(BLOOM_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def texts() -> Iterator[str]:
    """Yield every string of the example files, in order, and the system text that the templates add."""
    single, multi = (
        TINY.parent / "yayi_train_example.json",
        TINY.parent / "yayi_train_example_multi_rounds.json",
    )
    for line in single.read_text(encoding="utf-8").splitlines():
        yield from json.loads(line).values()
    for record in json.loads(multi.read_text(encoding="utf-8")):
        yield record["system"]
        yield from (turn["value"] for turn in record["conversations"])
    yield from SYSTEM


def write(path: Path, members: dict[str, object]) -> None:
    """Write JSON as transformers writes its config files."""
    path.write_text(json.dumps(members, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
