"""A packed folder trains elsewhere: what TRL and transformers learn from is what our mask says, token by token."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import transformers
import trl

from yayi_data.export import export
from yayi_data.pipeline import PackOptions, pack

DATA = Path(__file__).resolve().parents[2] / "data"
Row = tuple[list[int], list[int]]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("ecosystem") / "packed"
    sources = tuple(str(path) for path in sorted(DATA.glob("*.json")))
    pack(PackOptions(sources, str(DATA / "tiny"), output, workers=1))
    return output


@pytest.fixture(autouse=True)
def no_cache() -> Any:
    datasets.disable_caching()
    yield
    datasets.enable_caching()


def ours(packed: Path) -> list[Row]:
    return [
        (
            row["input_ids"],
            [
                i if learnt else -100
                for i, learnt in zip(row["input_ids"], row["assistant_masks"], strict=True)
            ],
        )
        for row in datasets.load_from_disk(str(packed))
    ]


def tokenizer_of(packed: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(packed / "tokenizer")


def sft(rows: datasets.Dataset, packed: Path, output: Path, **options: Any) -> Any:
    tokenizer = tokenizer_of(packed)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    return trl.SFTTrainer(
        model=transformers.LlamaForCausalLM(config),
        args=trl.SFTConfig(
            output_dir=str(output), use_cpu=True, bf16=False, report_to="none", max_length=2048,
            per_device_train_batch_size=4, **options,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
    )  # fmt: skip


def learnt(trainer: Any) -> list[Row]:
    """What the trainer's collator makes of every row, padding taken off."""
    found = []
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        found.append((batch["input_ids"][0].tolist(), batch["labels"][0].tolist()))
    return found


def test_trl_learns_what_the_mask_of_a_packed_folder_says(packed: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in packed.iterdir())
    trainer = sft(datasets.load_from_disk(str(packed)), packed, tmp_path)
    assert learnt(trainer) == ours(packed)
    assert sorted(path.name for path in packed.iterdir()) == before


def test_trl_learns_the_same_from_messages_and_the_chat_template(packed: Path, tmp_path: Path) -> None:
    export(packed, "messages", tmp_path / "a.jsonl")
    rows = datasets.load_dataset(
        "json", data_files=str(tmp_path / "a.jsonl"), split="train", cache_dir=tmp_path
    )
    trainer = sft(rows, packed, tmp_path, assistant_only_loss=True)
    assert learnt(trainer) == ours(packed)


def test_transformers_learns_the_same_from_labels(packed: Path, tmp_path: Path) -> None:
    export(packed, "labels", tmp_path / "labels")
    rows = list(datasets.load_from_disk(str(tmp_path / "labels")))
    collator = transformers.DataCollatorForSeq2Seq(tokenizer_of(packed))
    batch = {name: column.tolist() for name, column in collator(rows).items()}
    for i, (ids, labels) in enumerate(ours(packed)):
        padding = len(batch["labels"][i]) - len(ids)
        assert batch["labels"][i] in (labels + [-100] * padding, [-100] * padding + labels)
        assert sum(batch["attention_mask"][i]) == len(ids)
