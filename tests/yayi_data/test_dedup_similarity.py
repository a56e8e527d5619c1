import random

import numpy as np
import pytest

from yayi_data.dedup.similarity import bands_for, grams, jaccard, normalised, signatures
from yayi_data.dedup.twins import Search, find_twins

THRESHOLD = 0.8


def exact(a: str, b: str) -> float:
    """The Jaccard similarity by its definition, over sets of strings."""
    first, second = ({t[i : i + 5] for i in range(max(1, len(t) - 4))} for t in (a, b))
    return len(first & second) / len(first | second)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("今天天气很好我们去公园", "今天天气很好我们去公司"),
        ("abcdefgh", "abcdefgh"),
        ("abc", "abc"),
        ("abc", "abcd"),
        ("", ""),
        ("", "abcdef"),
        ("aaaaaaaaaa", "aaaaab"),
        ("𠀀𠀁𠀂𠀃𠀄😀", "𠀀𠀁𠀂𠀃𠀄😁"),
        ("\ud800abcdef", "abcdef"),
    ],
)
def test_similarity_is_that_of_the_sets_of_grams(a: str, b: str) -> None:
    assert jaccard(grams(a), grams(b)) == exact(a, b)


def test_texts_are_compared_without_width_case_and_spacing() -> None:
    assert normalised("  ＡＢＣ\n\tdef　ß") == "abc def ss"


def test_a_signature_depends_on_its_text_alone() -> None:
    bands = bands_for(THRESHOLD)
    texts = ["一二三四五六七八", "", "abc", "x" * 1000]
    together = signatures(texts, bands)
    alone = np.concatenate([signatures([text], bands) for text in texts])
    assert np.array_equal(together, alone)
    assert signatures([], bands).shape == (0, bands.slots)


def test_a_huge_text_has_a_signature() -> None:
    assert signatures(["长文" * 500_000], bands_for(THRESHOLD)).shape[0] == 1


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7, 0.8, 0.9, 0.99, 1.0])
def test_bands_find_pairs_at_the_threshold(threshold: float) -> None:
    bands = bands_for(threshold)
    assert bands.slots <= 128
    assert 1 - (1 - threshold**bands.rows) ** bands.count >= 0.99


def generated_pairs(count: int, low: float, high: float) -> list[tuple[str, str]]:
    """Pairs of texts, each of its own, whose similarity is spread over [low, high)."""
    pick, pairs = random.Random(7), []
    while len(pairs) < count:
        text = [chr(0x4E00 + pick.randrange(5000)) for _ in range(pick.randint(60, 400))]
        changed = list(text)
        for _ in range(pick.randint(1, 12)):
            changed[pick.randrange(len(text))] = chr(0x4E00 + pick.randrange(5000))
        pair = "".join(text), "".join(changed)
        if low <= exact(*pair) < high:
            pairs.append(pair)
    return pairs


@pytest.mark.parametrize(("low", "high"), [(0.8, 0.82), (0.8, 1.0)], ids=["at the threshold", "above it"])
def test_recall_and_precision_are_over_95_in_100(low: float, high: float) -> None:
    near, far = generated_pairs(400, low, high), generated_pairs(400, 0.7, 0.8)
    texts = [text for pair in near + far for text in pair]
    bands = bands_for(THRESHOLD)
    digests = np.arange(2 * len(texts), dtype=np.uint64).reshape(-1, 2)
    twins = find_twins(
        digests, signatures(texts, bands), lambda i: grams(texts[i]), Search(THRESHOLD, bands)
    ).twin
    found = set(np.flatnonzero(twins >= 0).tolist())
    wanted = {2 * i + 1 for i in range(len(near))}
    assert len(found & wanted) / len(wanted) > 0.95
    assert len(found & wanted) / len(found) > 0.95
    assert all(twins[i] == i - 1 for i in found)
