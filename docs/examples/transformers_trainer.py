"""Train with transformers' Trainer on what `yayi-data export packed --labels --output labels` wrote.

    python docs/examples/transformers_trainer.py labels MODEL OUT

MODEL is what `yayi-train prepare` wrote: its tokenizer is the one that the data was packed with.
"""

import sys

import datasets
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)

data, base, output = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base)
rows = datasets.load_from_disk(data).train_test_split(test_size=0.1, seed=515)

trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=output,
        per_device_train_batch_size=4,
        max_steps=4,
        learning_rate=1e-3,
        logging_steps=1,
        seed=515,
        report_to="none",
        use_cpu=True,  # this and max_steps make a quick example: leave both out for a real run
    ),
    train_dataset=rows["train"],
    eval_dataset=rows["test"],
    data_collator=DataCollatorForSeq2Seq(
        tokenizer
    ),  # pads ids, makes the attention mask, pads labels with -100
    processing_class=tokenizer,  # is saved with the model
)
before = trainer.evaluate()["eval_loss"]
trainer.train()
after = trainer.evaluate()["eval_loss"]
trainer.save_model(output)
print(f"eval_loss {before:.3f} -> {after:.3f}")
