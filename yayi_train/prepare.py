"""A base model becomes one that knows a template: control tokens, new vocabulary, and rows for both."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from yayi_data import tokenizer_json
from yayi_data.console import one_line
from yayi_data.errors import YayiError
from yayi_data.template import load_template
from yayi_data.tokenizer import Tokenizer
from yayi_train.folders import new_folder
from yayi_train.model import load_base, model_folder, read_config, save_final
from yayi_train.vocabulary import (
    Vocabulary,
    control_names,
    grow_vocabulary,
    id_count,
    read_tokenizer,
    read_tokenizer_config,
    vocabulary_of,
)


def prepare(base: str, template: str, output: Path, vocab: Path | None = None) -> Vocabulary:
    """Write `base` with a template's control tokens (and the tokens of `vocab`, one a line) to `output`.

    A base that is a config without weights starts from random ones. Returns the vocabulary, with the ids that
    are new to the model.
    """
    folder = model_folder(base)
    content = read_tokenizer(folder)
    form = load_template(template)
    words = _with_words(content, _words(vocab)) if vocab else content
    grown = tokenizer_json.with_control(words, list(control_names(folder, words, form).values()))
    vocabulary = vocabulary_of(folder, content, grown)
    with new_folder(output) as partial:
        model = load_base(folder, read_config(folder).dtype or torch.float32)
        grow_vocabulary(model, vocabulary)
        Tokenizer(words, form, "reference", read_tokenizer_config(folder)).write(partial)
        save_final(model, partial, partial)
        replace(vocabulary, missing=[]).write(partial)
    return vocabulary


def _words(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise YayiError(f"--vocab {file}: cannot read it as UTF-8 text: {one_line(str(error))}") from error
    words = [line.strip() for line in lines if line.strip()]
    if not words:
        raise YayiError(f"--vocab {file}: no tokens there; write one a line")
    return words


def _with_words(tokenizer: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """Return the tokenizer with the words it lacks added as plain tokens, found anywhere in a text."""
    added = list(tokenizer["added_tokens"])
    known = tokenizer_json.vocabulary(tokenizer["model"]).keys() | {token["content"] for token in added}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    lacking = [word for word in dict.fromkeys(words) if word not in known]
    first = id_count(tokenizer)
    return tokenizer | {
        "added_tokens": added + [{"id": first + i, "content": word} | flags for i, word in enumerate(lacking)]
    }
