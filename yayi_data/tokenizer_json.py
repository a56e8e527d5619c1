"""What a parsed tokenizer.json says, and two made of it: with control tokens, and for content only."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson

Json = dict[str, Any]

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


def vocabulary(model: Json) -> dict[str, int]:
    """Return the model's own vocabulary, token to id, whatever the model's type."""
    vocab: Any = model["vocab"]
    return vocab if isinstance(vocab, dict) else {entry[0]: i for i, entry in enumerate(vocab)}


def with_control(tokenizer: Json, control: Sequence[str]) -> Json:
    """Return the tokenizer with the control tokens it lacks added as special tokens.

    A new id follows the highest, in order; a token that the model's vocabulary already holds keeps its id, as
    with `add_special_tokens` of the `tokenizers` library. Truncation and padding are cleared.
    """
    vocab = vocabulary(tokenizer["model"])
    added = list(tokenizer["added_tokens"])
    present = {token["content"] for token in added}
    for content in control:
        if content not in present:
            top = max((token["id"] for token in added), default=-1)
            added.append(_special(content, vocab.get(content, max(top + 1, len(vocab)))))
    return {**tokenizer, "truncation": None, "padding": None, "added_tokens": added}


def _special(content: str, number: int) -> Json:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, **flags, "special": True}


def reserved(tokenizer: Json, control: Sequence[str]) -> dict[str, int]:
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


def content_only(tokenizer: Json, names: Sequence[str]) -> Json:
    """Return the tokenizer for text between control tokens: it cannot yield the tokens `names`.

    Ids of the remaining added tokens are as in the file, which not every library heeds (see `added_ids`).
    """
    added = [token for token in tokenizer["added_tokens"] if token["content"] not in names]
    model = {**_unreachable(tokenizer["model"], names), "dropout": None}
    if tokenizer["model"]["type"] != "BPE":
        del model["dropout"]
    return {
        **tokenizer,
        "added_tokens": added,
        "model": model,
        "pre_tokenizer": _inner(tokenizer["pre_tokenizer"]),
    }


def _inner(pre_tokenizer: Any) -> Any:
    """Turn Metaspace's prefix for the first piece off: a control token always comes before ours."""
    if isinstance(pre_tokenizer, list):
        return [_inner(step) for step in pre_tokenizer]
    if not isinstance(pre_tokenizer, dict):
        return pre_tokenizer
    changed = {key: _inner(value) for key, value in pre_tokenizer.items()}
    if changed.get("type") == "Metaspace" and changed.get("prepend_scheme") == "first":
        changed["prepend_scheme"] = "never"
    return changed


def _unreachable(model: Json, names: Sequence[str]) -> Json:
    """Return a model in which no text leads to the tokens `names`: their merges go, or they are renamed."""
    vocab = vocabulary(model)
    present = {name for name in names if name in vocab}
    if not present:
        return model
    if model["type"] == "BPE" and not model.get("ignore_merges"):
        merges = [merge for merge in model["merges"] if _product(merge) not in present]
        return {**model, "merges": merges}
    if model["type"] == "BPE":
        merges = [merge for merge in model["merges"] if not present & {_product(merge), *_pair(merge)}]
        model = {**model, "merges": merges}
    elif model["type"] == "Unigram":
        renamed = [[_rename(token, i, present), score] for i, (token, score) in enumerate(model["vocab"])]
        return {**model, "vocab": renamed}
    present -= {model.get("unk_token")}
    return {**model, "vocab": {_rename(token, i, present): i for token, i in vocab.items()}}


def _rename(token: str, number: int, names: set[str]) -> str:
    """Give a reserved token a name that pre-tokenized text does not hold: a space and a noncharacter."""
    return f" \U0010ffff{number}" if token in names else token


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _product(merge: str | list[str]) -> str:
    return merge.replace(" ", "", 1) if isinstance(merge, str) else "".join(merge)


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
    """Return the sha256 of what decides the ids: vocabulary, merges, added tokens and the steps around them.

    It does not depend on the file's layout, the order of its keys or how it spells merges.
    """
    digest = hashlib.sha256()
    model = tokenizer["model"]
    rest = {key: value for key, value in model.items() if key not in ("vocab", "merges")}
    added = sorted(tokenizer["added_tokens"], key=lambda token: int(token["id"]))
    parts = [rest, added, *(tokenizer[key] for key in ("normalizer", "pre_tokenizer", "post_processor"))]
    digest.update(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS))
    for part in (*_vocabulary_bytes(model), _merges_bytes(model.get("merges") or [])):
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


def _merges_bytes(merges: list[Any]) -> bytes:
    return "\n".join(spelled_merges(merges)).encode() if spelled_merges(merges) else orjson.dumps(merges)


def spelled_merges(merges: list[Any]) -> list[str]:
    """Return merges as `"a b"`, which loads faster than `["a", "b"]`; [] where a token holds a space."""
    spelled = merges if merges and isinstance(merges[0], str) else list(map(" ".join, merges))
    return spelled if "\n".join(spelled).count(" ") == len(spelled) else []
