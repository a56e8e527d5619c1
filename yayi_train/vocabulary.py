"""The ids of a run: the model's tokenizer against the packed data's, and a row of the model for each id."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import Tensor
from transformers import PreTrainedModel

from yayi_data import tokenizer_json
from yayi_data.console import one_line
from yayi_data.errors import YayiError
from yayi_data.template import Template, load_template

FACTS = "yayi.json"
_NEW_ROW_SPREAD = 0.01


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The ids of a tokenizer with its control tokens, against those of a model.

    `size` is the rows that the model needs; `new_ids` are those that nothing has taught it yet; `missing`, of
    these, are those that its own tokenizer lacks, so that their rows are still to be made.
    """

    size: int
    new_ids: list[int]
    missing: list[int]

    def write(self, folder: Path) -> None:
        """Write it beside a prepared model or an adapter."""
        (folder / FACTS).write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_APPEND_NEWLINE))


def written_vocabulary(folder: Path) -> Vocabulary | None:
    """Return what `Vocabulary.write` left in a folder, None where it left nothing."""
    path = folder / FACTS
    if not path.is_file():
        return None
    try:
        vocabulary = Vocabulary(**tokenizer_json.read_object(path))
    except TypeError as error:
        raise YayiError(f"{path}: not what yayi-train wrote: {one_line(str(error))}") from error
    fault = _fault(vocabulary, id_count(read_tokenizer(folder)))
    if fault:
        raise YayiError(
            f"{path}: not what yayi-train wrote: {fault}; copy it again from where it was trained"
        )
    return vocabulary


def _fault(vocabulary: Vocabulary, ids: int) -> str | None:
    """Tell what is wrong with a written vocabulary whose tokenizer has `ids` ids, None where it is fine."""
    size: Any = vocabulary.size
    if type(size) is not int or not 0 < size <= ids:
        return f"size is {size!r}, expected a number up to the {ids} ids of the tokenizer beside it"
    for name in ("new_ids", "missing"):
        values = getattr(vocabulary, name)
        if not isinstance(values, list) or not all(type(v) is int and 0 <= v < size for v in values):
            return f"{name} is no list of ids below {size}"
    return None


def check_tokenizer(folder: Path, packed: Path) -> Vocabulary:
    """Return a model's vocabulary for packed data; YayiError where its tokenizer is another than the data's.

    A model without the control tokens is given them as `pack` gave them to its tokenizer.
    """
    theirs = packed / "tokenizer"
    own, data = read_tokenizer(folder), read_tokenizer(theirs)
    names = control_names(folder, own, load_template(str(theirs / "template.toml")))
    ours = tokenizer_json.with_control(own, list(names.values()))
    if tokenizer_json.fingerprint(ours) != tokenizer_json.fingerprint(data):
        raise YayiError(
            f"the tokenizer in {folder} is not the one that {packed} was packed with: "
            f"{_difference(ours, data)}; pack the data with --tokenizer {folder}, or train the data's model"
        )
    return vocabulary_of(folder, own, ours)


def vocabulary_of(folder: Path, own: dict[str, Any], grown: dict[str, Any]) -> Vocabulary:
    """Return the vocabulary of a model folder whose parsed tokenizer.json is `own` and shall be `grown`."""
    missing = added_ids(own, grown)
    written = written_vocabulary(folder)
    return Vocabulary(id_count(grown), sorted({*missing, *(written.new_ids if written else ())}), missing)


def control_names(folder: Path, tokenizer: dict[str, Any], template: Template) -> dict[str, str]:
    """Return what the parsed tokenizer.json of a folder calls each of a template's control tokens."""
    eos = read_tokenizer_config(folder).get("eos_token") or ""
    name = eos["content"] if isinstance(eos, dict) else eos
    return tokenizer_json.control_names(tokenizer, template.control, template.existing, name)


def id_count(tokenizer: dict[str, Any]) -> int:
    """Return the number of rows a model needs for a parsed tokenizer.json: its highest id + 1."""
    added = (token["id"] for token in tokenizer["added_tokens"])
    return 1 + max(*tokenizer_json.vocabulary(tokenizer["model"]).values(), *map(int, added))


def added_ids(before: dict[str, Any], after: dict[str, Any]) -> list[int]:
    """Return the ids that one parsed tokenizer.json has and the other had not, in order."""
    known = {token["id"] for token in before["added_tokens"]}
    known |= set(tokenizer_json.vocabulary(before["model"]).values())
    return sorted({token["id"] for token in after["added_tokens"]} - known)


def read_tokenizer(folder: Path) -> dict[str, Any]:
    """Return the parsed tokenizer.json of a folder; YayiError where it is none of the tokenizers library."""
    try:
        content = tokenizer_json.read_object(folder / "tokenizer.json")
    except OSError as error:
        raise YayiError(
            f"{folder}: no tokenizer.json there, and a model's ids mean nothing without it"
        ) from error
    fault = tokenizer_json.fault(content, ())
    if fault:
        raise YayiError(f"{folder / 'tokenizer.json'}: {fault}")
    return content


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """Return the parsed tokenizer_config.json of a folder, empty where there is none."""
    path = folder / "tokenizer_config.json"
    return tokenizer_json.read_object(path) if path.is_file() else {}


_PARTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "vocabulary": lambda t: tokenizer_json.vocabulary(t["model"]),
    "list of added tokens": lambda t: sorted(
        (a["id"], a["content"], a["special"]) for a in t["added_tokens"]
    ),
    "normalizer": lambda t: t["normalizer"],
    "pre-tokenizer": lambda t: t["pre_tokenizer"],
    "post-processor": lambda t: t["post_processor"],
}


def _difference(ours: dict[str, Any], data: dict[str, Any]) -> str:
    for name, part in _PARTS.items():
        here, there = part(ours), part(data)
        if here != there:
            sized = isinstance(here, dict | list) and isinstance(there, dict | list)
            return f"the {name} differs" + (
                f" ({len(here)} entries here, {len(there)} there)" if sized else ""
            )
    return "the merges or a setting of its model differ"


def grow_vocabulary(model: PreTrainedModel, vocabulary: Vocabulary) -> None:
    """Give the model a row for every id, never fewer than it had, and make the rows of the missing ids.

    A new row is the mean of the known ones, so that it is neither likely nor unlikely at first, with a little
    noise of their spread, so that no two are alike; always the same for the same model. Call it before any
    wrapping by PEFT or DeepSpeed.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if vocabulary.size > rows:
        model.resize_token_embeddings(vocabulary.size, mean_resizing=False)
    if not vocabulary.missing:
        return
    known = min(rows, vocabulary.missing[0])
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    for weight in {id(t.weight): t.weight for t in tables if t is not None}.values():
        _set_rows(weight.data, vocabulary.missing, known)


def _set_rows(weight: Tensor, ids: list[int], known: int) -> None:
    old = weight[:known].float()
    noise = torch.randn(len(ids), weight.shape[1], generator=torch.Generator().manual_seed(0))
    rows = old.mean(0) + _NEW_ROW_SPREAD * old.std(0) * noise.to(weight.device)
    weight[ids] = rows.to(weight.dtype)
