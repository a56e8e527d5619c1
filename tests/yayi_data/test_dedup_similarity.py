import random

import numpy as np
import pytest

from yayi_data.dedup import bits, twins
from yayi_data.dedup.bits import HeldBits
from yayi_data.dedup.similarity import Grams, bands_for, grams, jaccard, normalised, signatures
from yayi_data.dedup.twins import Search, Twins, find_twins

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


@pytest.mark.parametrize("held", [1 << 25, 40 << 10], ids=["all held", "few held"])
def test_bits_bound_the_similarity_from_above(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits, "_HELD", held)
    pick = random.Random(3)
    texts = ["".join(pick.choices("一二三四五六", k=pick.choice([1, 40, 400, 3000]))) for _ in range(20)]
    of = [grams(text) for text in texts] + [grams(text[:-1] + "七") for text in texts]
    held_bits = HeldBits(of.__getitem__, len(of))
    for i in range(len(of)):
        for some in np.array_split(np.delete(np.arange(len(of)), i), 10):
            exactly = [jaccard(of[i], of[j]) for j in some]
            assert (held_bits.bounds(i, some) >= exactly).all()


def boilerplate(count: int, own: int) -> list[str]:
    """Texts of 300 characters, of which all share all but the last `own`."""
    pick = random.Random(11)
    shared, *ends = ("".join(pick.choices(LETTERS, k=300 - own if i == 0 else own)) for i in range(count + 1))
    return [shared + end for end in ends]


LETTERS = [chr(0x4E00 + i) for i in range(5000)]


def twins_of(texts: list[str]) -> Twins:
    bands = bands_for(THRESHOLD)
    digests = np.arange(2 * len(texts), dtype=np.uint64).reshape(-1, 2)
    search = Search(THRESHOLD, bands)
    return find_twins(digests, signatures(texts, bands), lambda i: grams(texts[i]), search)


def test_records_with_one_long_instruction_are_told_apart_without_their_grams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts, compared = boilerplate(150, own=38), []

    def counted(a: Grams, b: Grams) -> float:
        compared.append((a, b))
        return jaccard(a, b)

    monkeypatch.setattr(twins, "jaccard", counted)
    assert 0.76 < exact(texts[0], texts[1]) < 0.78
    assert (twins_of(texts).twin == -1).all()
    assert len(compared) < len(texts)


def test_the_twin_is_the_first_that_is_near_enough_however_many_are_almost() -> None:
    texts = boilerplate(600, own=38)
    texts.append(texts[500][:-3] + texts[0][-3:])
    near = [j for j in range(600) if exact(texts[600], texts[j]) >= THRESHOLD]
    assert twins_of(texts).twin[600] == near[0]


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
    twin = twins_of(texts).twin
    found = set(np.flatnonzero(twin >= 0).tolist())
    wanted = {2 * i + 1 for i in range(len(near))}
    assert len(found & wanted) / len(wanted) > 0.95
    assert len(found & wanted) / len(found) > 0.95
    assert all(twin[i] == i - 1 for i in found)
