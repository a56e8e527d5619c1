"""What a parsed tokenizer.json says, and two made of it: with control tokens, and for content only."""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from yayi_data.console import one_line
from yayi_data.errors import YayiError

Json = dict[str, Any]

_FLAGS = {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


def read_object(path: Path) -> Json:
    """Return the object of a JSON file; YayiError where it holds anything else."""
    try:
        content = orjson.loads(path.read_bytes())
    except ValueError as error:
        raise YayiError(f"{path}: not valid JSON: {one_line(str(error))}") from error
    if not isinstance(content, dict):
        raise YayiError(f"{path}: found a JSON {type(content).__name__}, expected an object")
    return content


def vocabulary(model: Json) -> dict[str, int]:
    """Return the model's own vocabulary, token to id, whatever the model's type."""
    vocab: Any = model["vocab"]
    return vocab if isinstance(vocab, dict) else {entry[0]: i for i, entry in enumerate(vocab)}


def fault(tokenizer: Json, control: Collection[str]) -> str:
    """Return what keeps a parsed tokenizer.json from encoding text piece by piece, "" where nothing does."""
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens") or []
    if (
        not isinstance(model, dict)
        or not model.get("vocab")
        or not all(token.keys() >= _FLAGS for token in added)
    ):
        return "found no model with a vocabulary, expected a tokenizer.json of the tokenizers library"
    harmful = ["single_word", "lstrip", "rstrip"] + (["normalized"] if tokenizer.get("normalizer") else [])
    for token in added:
        wrong = [flag for flag in harmful if token[flag]]
        if token["content"] in control and wrong:
            return (
                f"the control token {token['content']} is flagged {' and '.join(wrong)}, so that it and "
                "the text beside it would change each other; set the flag to false in added_tokens"
            )
    for token, number in zip(added, _read_ids(model, added), strict=True):
        if token["id"] != number:
            return (
                f"added_tokens gives {token['content']} the id {token['id']}, and the tokenizers library "
                f"reads {number}: it counts on from the vocabulary; list the missing ids in added_tokens"
            )
    return ""


def _read_ids(model: Json, added: Sequence[Json]) -> Iterator[int]:
    """Yield the id that `tokenizers` gives each added token: that in the vocabulary, or the next free one."""
    vocab = vocabulary(model)
    top = -1
    for token in added:
        number = vocab.get(token["content"], max(top + 1, len(vocab)))
        top = max(top, number)
        yield number


def control_names(
    tokenizer: Json, control: Sequence[str], existing: Mapping[str, int | str], eos: str
) -> dict[str, str]:
    """Return what each of a template's control tokens is called in this tokenizer.

    A token that `existing` places at an id is the added token there, if there is one; one that it calls "eos"
    is the tokenizer's end of text, if it names one. Any other keeps its name.
    """
    added = {token.get("id"): token.get("content") for token in tokenizer.get("added_tokens") or []}
    held = {token: eos if where == "eos" else added.get(where) for token, where in existing.items()}
    return {token: held.get(token) or token for token in control}


def with_control(tokenizer: Json, control: Sequence[str]) -> Json:
    """Return the tokenizer with the control tokens it lacks added as special tokens.

    A new id follows the highest, in order; a token that the model's vocabulary already holds keeps its id, as
    with `add_special_tokens` of the `tokenizers` library. Truncation and padding are cleared, merges spelled
    in the way that loads fastest.
    """
    model = tokenizer["model"]
    if model.get("merges"):
        model = {**model, "merges": _spelled_merges(model["merges"])}
    added = list(tokenizer.get("added_tokens") or [])
    present = {token["content"] for token in added}
    added += [_special(content) for content in control if content not in present]
    added = [{**token, "id": number} for token, number in zip(added, _read_ids(model, added), strict=True)]
    steps = {key: tokenizer.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder")}
    cleared = {"truncation": None, "padding": None}
    return {"version": "1.0", **cleared, "added_tokens": added, **steps, "model": model}


def _special(content: str) -> Json:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": -1, "content": content, **flags, "special": True}


def reserved(tokenizer: Json, control: Collection[str]) -> dict[str, int]:
    """Return the tokens that text may never yield, with their ids: special ones and control tokens."""
    return {
        t["content"]: t["id"] for t in tokenizer["added_tokens"] if t["special"] or t["content"] in control
    }


def unknown_id(model: Json) -> int | None:
    """Return the id that stands for what the model cannot spell, if it has one."""
    if "unk_id" in model:
        number: int | None = model["unk_id"]
        return number
    return vocabulary(model).get(model.get("unk_token") or "")


def content_only(tokenizer: Json, names: Collection[str]) -> Json:
    """Return the tokenizer for text between control tokens: it cannot yield the tokens `names`.

    The remaining added tokens have the ids of the file, which `tokenizers` does not heed.
    """
    model = _unreachable(tokenizer["model"], names)
    return {
        **tokenizer,
        "added_tokens": [token for token in tokenizer["added_tokens"] if token["content"] not in names],
        "pre_tokenizer": _without_first_prefix(tokenizer["pre_tokenizer"]),
        "model": {**model, "dropout": None} if model.get("dropout") else model,
    }


def _without_first_prefix(pre_tokenizer: Any) -> Any:
    """Turn off the prefix that Metaspace puts before the first piece: a control token comes before ours."""
    if isinstance(pre_tokenizer, list):
        return [_without_first_prefix(step) for step in pre_tokenizer]
    if not isinstance(pre_tokenizer, dict):
        return pre_tokenizer
    changed = {key: _without_first_prefix(value) for key, value in pre_tokenizer.items()}
    if changed.get("prepend_scheme") == "first":
        changed["prepend_scheme"] = "never"
    return changed


def for_fast(tokenizer: Json) -> Json:
    """Return the tokenizer with Metaspace written as the normalizer steps and split that it amounts to.

    fastokens knows those, not Metaspace. It needs no post-processor.
    """
    changed = {**tokenizer, "post_processor": None}
    metaspace = tokenizer["pre_tokenizer"] or {}
    if metaspace.get("type") != "Metaspace":
        return changed
    mark = metaspace["replacement"]
    normalizers = [*steps(tokenizer["normalizer"]), _replace({"String": " "}, mark)]
    if metaspace.get("prepend_scheme", "always") == "always":
        normalizers.append(_replace({"Regex": rf"\A(?=[^{re.escape(mark)}])"}, mark))
    split = {"type": "Split", "pattern": {"String": mark}, "behavior": "MergedWithNext", "invert": False}
    return {
        **changed,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": split if metaspace.get("split", True) else None,
    }


def _replace(pattern: Json, content: str) -> Json:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _unreachable(model: Json, names: Collection[str]) -> Json:
    """Return a model in which no text leads to the tokens `names`: they are renamed and their merges gone."""
    vocab = vocabulary(model)
    present = {name for name in names if name in vocab}
    if not present:
        return model
    if model["type"] == "Unigram":
        renamed = [[_rename(token, i, present), score] for i, (token, score) in enumerate(model["vocab"])]
        return {**model, "vocab": renamed}
    changed = {**model, "vocab": {_rename(token, i, present): i for token, i in vocab.items()}}
    if model.get("unk_token") in present:
        changed["unk_token"] = _rename(model["unk_token"], vocab[model["unk_token"]], present)
    if model["type"] == "BPE":
        changed["merges"] = _merges_without(model["merges"], present)
    return changed


def _merges_without(merges: list[Any], names: set[str]) -> list[Any]:
    if isinstance(merges[0], str):  # one search through all of them spares most vocabularies the loop
        run_together = "\n".join(merges).replace(" ", "")
        if not any(name in run_together for name in names):
            return merges
    return [merge for merge in merges if names.isdisjoint(_named(merge))]


def _rename(token: str, number: int, names: set[str]) -> str:
    """Give a reserved token a name that pre-tokenized text does not hold: a space and a noncharacter."""
    return f" \U0010ffff{number}" if token in names else token


def _named(merge: str | list[str]) -> tuple[str, str, str]:
    """Return the tokens that a merge names: its two parts and what they make."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right, left + right


def steps(component: Any) -> Iterator[Json]:
    """Yield a normalizer's or pre-tokenizer's steps, sequences flattened."""
    if isinstance(component, dict):
        inner = component.get("normalizers") or component.get("pretokenizers")
        for step in inner or []:
            yield from steps(step)
        if not inner:
            yield component


def token_bytes(tokenizer: Json) -> "np.ndarray[Any, np.dtype[np.int32]]":
    """Return the number of bytes of normalised text that each id covers, indexed by id; 0 = cannot be told.

    One byte a character for byte-level vocabularies, one for `<0xNN>`, else the token's UTF-8 length.
    """
    model, added = tokenizer["model"], tokenizer["added_tokens"]
    vocab = vocabulary(model)
    size = max([*vocab.values(), *(token["id"] for token in added)], default=-1) + 1
    sizes = np.zeros(size, np.int32)
    kinds = {step["type"] for step in (*steps(tokenizer["pre_tokenizer"]), *steps(tokenizer["normalizer"]))}
    texts = vocab.keys() if "ByteLevel" in kinds else map(str.encode, _spelled(vocab, model))
    sizes[np.fromiter(vocab.values(), np.int64, len(vocab))] = np.fromiter(
        map(len, texts), np.int32, len(vocab)
    )
    for token in added:
        plain = not (token["lstrip"] or token["rstrip"] or (token["normalized"] and tokenizer["normalizer"]))
        sizes[token["id"]] = len(token["content"].encode()) if plain else 0
    unknown = unknown_id(model)
    if unknown is not None:
        sizes[unknown] = 0
    return sizes


def _spelled(vocab: dict[str, int], model: Json) -> Iterator[str]:
    """Yield each token as it stands in text: byte tokens as one character, affixes taken off."""
    prefix = model.get("continuing_subword_prefix") or ""
    suffix = model.get("end_of_word_suffix") or ""
    for token in vocab:
        if model.get("byte_fallback") and _BYTE_TOKEN.fullmatch(token):
            yield "?"
        else:
            yield token.removeprefix(prefix).removesuffix(suffix)


def fingerprint(tokenizer: Json) -> str:
    """Return the sha256 of what decides the ids: vocabulary, merges, added tokens and all steps but decoding.

    It does not depend on the file's layout, the order of its keys or, after `with_control`, on how it
    spells merges.
    """
    digest = hashlib.sha256()
    model = tokenizer["model"]
    rest = {key: value for key, value in model.items() if key not in ("vocab", "merges")}
    added = sorted(tokenizer["added_tokens"], key=lambda token: int(token["id"]))
    parts = [rest, added, *(tokenizer[key] for key in ("normalizer", "pre_tokenizer", "post_processor"))]
    digest.update(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS))
    for part in (*_vocabulary_bytes(model), orjson.dumps(model.get("merges"))):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _vocabulary_bytes(model: Json) -> tuple[bytes, bytes]:
    if not isinstance(model["vocab"], dict):
        return orjson.dumps(model["vocab"]), b""
    tokens, ids = list(model["vocab"]), np.fromiter(model["vocab"].values(), np.int64, len(model["vocab"]))
    if (np.diff(ids) < 0).any():
        order = np.argsort(ids, kind="stable")
        tokens, ids = [tokens[i] for i in order], ids[order]
    return "\0".join(tokens).encode(), ids.tobytes()


def _spelled_merges(merges: list[Any]) -> list[Any]:
    """Return merges as `"a b"`, which loads faster than `["a", "b"]`, unless a token holds a space."""
    spelled = merges if isinstance(merges[0], str) else list(map(" ".join, merges))
    return spelled if "\n".join(spelled).count(" ") == len(spelled) else merges
