"""The loss of a saved model or adapter on packed data, in one process."""

from dataclasses import dataclass

from yayi_data.console import one_line
from yayi_data.errors import DataError
from yayi_data.remote.mirror import packed_at
from yayi_train import attention
from yayi_train.config import DataConfig
from yayi_train.data import open_corpus, rows_of
from yayi_train.evaluate import evaluate
from yayi_train.lora import load_trained
from yayi_train.model import model_folder
from yayi_train.vocabulary import check_tokenizer, grow_vocabulary


@dataclass(frozen=True, slots=True)
class Score:
    """The mean loss of a supervised token, in all and per domain."""

    eval_loss: float
    eval_loss_by_domain: dict[str, float]
    supervised_tokens: int

    def as_text(self) -> str:
        """Return the score as lines, the worst domain first."""
        worst_first = sorted(self.eval_loss_by_domain.items(), key=lambda entry: -entry[1])
        lines = [f"{one_line(name):<20} {loss:.4f}" for name, loss in worst_first]
        return "\n".join(
            [f"loss {self.eval_loss:.4f} on {self.supervised_tokens:,} supervised tokens", *lines]
        )


def score(path_or_id: str, data: DataConfig, rows: int) -> Score:
    """Return a model's loss on the conversations that `data` names, `rows` a forward pass.

    YayiError where the model's tokenizer is not the one the data was packed with.
    """
    folder = model_folder(path_or_id)
    corpus = open_corpus(packed_at(data.path), data, seed=0)
    if not corpus.index.supervised_tokens[corpus.train].sum():
        raise DataError(f"{data.path}: holds no supervised token to evaluate")
    vocabulary = check_tokenizer(folder, corpus.folder)
    model = load_trained(folder)
    grow_vocabulary(attention.base_model(model), vocabulary)  # one that was not prepared, as training would
    inputs = attention.isolate(model) if data.packing else attention.plain
    totals = evaluate(model, inputs, corpus, rows_of(corpus, corpus.train, data, seed=0), rows)
    names = corpus.index.names
    return Score(totals.loss, totals.by_domain(names), int(totals.supervised.sum()))
