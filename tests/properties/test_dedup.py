from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from yayi_data.dedup import DedupOptions, dedup
from yayi_data.dedup.similarity import normalised

WORDS = ["一二三四五六", "七八九十", "abcde", "ＡＢＣＤＥ", " ", "x", "𠀀𠀁𠀂", "\u3000", "!"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map("".join).filter(str.strip)
RECORDS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12)
THRESHOLDS = st.sampled_from([0.5, 0.8, 1.0])


def grams(pair: tuple[str, str]) -> set[str]:
    text = normalised("\n".join(pair))
    return {text[i : i + 5] for i in range(max(1, len(text) - 4))}


def jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


@settings(max_examples=60, deadline=None)
@given(RECORDS, THRESHOLDS)
def test_what_is_dropped_has_a_kept_twin_that_is_near_enough(
    pairs: list[tuple[str, str]], threshold: float
) -> None:
    with TemporaryDirectory() as folder:
        source, output = Path(folder) / "a.jsonl", Path(folder) / "kept.jsonl"
        lines = [orjson.dumps({"instruction": q, "output": a}) for q, a in pairs]
        source.write_bytes(b"\n".join(lines))
        dedup(DedupOptions((str(source),), output, threshold=threshold, workers=1))
        drops = [orjson.loads(line) for line in (Path(folder) / "kept.dropped.jsonl").open("rb")]
        kept = output.read_bytes().splitlines()
    gone = {drop["record"] for drop in drops}
    assert kept == [line for i, line in enumerate(lines) if i not in gone]
    for drop in drops:
        twin = drop["twin"]["record"]
        assert twin not in gone
        assert twin < drop["record"]
        similarity = jaccard(grams(pairs[drop["record"]]), grams(pairs[twin]))
        assert similarity >= threshold
        assert abs(similarity - drop["similarity"]) <= 5e-5
