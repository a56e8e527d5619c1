"""Train with TRL's SFTTrainer on a packed folder as it is: TRL reads its `assistant_masks` column.

    python docs/examples/trl_sft.py packed MODEL OUT

MODEL is what `yayi-train prepare` wrote: its tokenizer is the one that the data was packed with.
"""

import sys

import datasets
from trl import SFTConfig, SFTTrainer

# Otherwise datasets keeps what TRL computes in the packed folder, and verify reports the new files.
datasets.disable_caching()

data, base, output = sys.argv[1:]
rows = datasets.load_from_disk(data).train_test_split(test_size=0.1, seed=515)

trainer = SFTTrainer(
    model=base,
    args=SFTConfig(
        output_dir=output,
        max_length=2048,  # not below pack's --max-length: TRL cuts what is longer
        per_device_train_batch_size=4,
        max_steps=4,
        learning_rate=1e-3,
        logging_steps=1,
        seed=515,
        report_to="none",
        use_cpu=True,  # this, bf16 and max_steps make a quick example: leave them out for a real run
        bf16=False,
    ),
    train_dataset=rows["train"],
    eval_dataset=rows["test"],
)
before = trainer.evaluate()["eval_loss"]
trainer.train()
after = trainer.evaluate()["eval_loss"]
trainer.save_model(output)
print(f"eval_loss {before:.3f} -> {after:.3f}")
