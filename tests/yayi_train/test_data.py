"""Which conversations are in which step: a function of seed and step, whatever the ranks."""

import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yayi_data.errors import DataError, YayiError
from yayi_data.index import Index
from yayi_train.config import DataConfig
from yayi_train.data import Corpus, Layout, Order, open_corpus, passes, place_of, rows_of, supervised_tokens

DATA = DataConfig(path="", seq_len=256, packing=True, test_size=0, mix={}, domains=[], limit=None)


@dataclass
class Facts:
    """What stands in for the parts of a corpus that an order does not look at."""


def corpus(examples: int, seed: int = 0) -> Corpus:
    """Return a corpus of an index alone, with two domains."""
    random = np.random.default_rng(seed)
    tokens = random.integers(5, 250, examples).astype(np.int32)
    index = Index(
        shard=np.zeros(examples, np.int32),
        row=np.arange(examples, dtype=np.int32),
        tokens=tokens,
        supervised_tokens=tokens // 2,
        domain=(np.arange(examples) % 2).astype(np.int32),
        names=["even", "odd"],
        content_hash=random.integers(0, 2**63, examples).astype(np.uint64),
    )
    return Corpus(Path(), Facts(), index, Facts(), np.arange(examples), np.arange(0))


def entries(batch: list) -> list[int]:
    return np.concatenate(batch).tolist()


@given(
    examples=st.integers(1, 300),
    rows=st.integers(1, 9),
    seed=st.integers(0, 5),
    packing=st.booleans(),
    epoch=st.integers(0, 2),
)
def test_an_epoch_has_every_conversation_once(examples, rows, seed, packing, epoch):
    order = Order(corpus(examples), replace(DATA, packing=packing), seed, rows)
    batches = order.epoch(epoch)
    assert sorted(entries([row for batch in batches for row in batch])) == list(range(examples))
    assert all(1 <= len(batch) <= rows for batch in batches)
    assert sum(len(batch) < rows for batch in batches) <= 1


@pytest.mark.parametrize("packing", [True, False])
def test_a_rank_of_many_holds_no_more_than_one_alone(packing):
    held = []
    data = corpus(20_000)
    for world in (1, 512):
        layout = Layout(world, 4, 1)
        tracemalloc.start()
        order = Order(data, replace(DATA, packing=packing), 0, layout.global_rows)
        order.total_steps(2)
        mine = passes(order.batch(1), layout, world - 1)
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert len(mine) == 1
    assert held[1] < 1.05 * held[0]


@given(
    world=st.integers(1, 5), rows=st.integers(1, 4), accumulation=st.integers(1, 4), given=st.integers(1, 80)
)
def test_the_ranks_passes_are_the_global_batch_cut_up(world, rows, accumulation, given):
    layout = Layout(world, rows, accumulation)
    batch = [np.array([n]) for n in range(min(given, layout.global_rows))]
    parts = [passes(batch, layout, rank) for rank in range(world)]
    assert all(len(own) == accumulation and all(len(p) <= rows for p in own) for own in parts)
    together = [int(row[0]) for own in parts for part in own for row in part]
    assert sorted(together) == list(range(len(batch)))


def test_the_global_batches_do_not_depend_on_how_they_are_cut():
    one, other = (Order(corpus(200), DATA, 1, rows) for rows in map(global_rows, ((1, 8, 1), (2, 2, 2))))
    for step in (1, 7, 30):
        assert entries(one.batch(step)) == entries(other.batch(step))


def global_rows(layout: tuple[int, int, int]) -> int:
    return Layout(*layout).global_rows


def test_epochs_differ_and_repeat_exactly():
    one, same, other = (Order(corpus(200), DATA, seed, 4) for seed in (1, 1, 2))
    assert entries(one.epoch(0)[0]) == entries(same.epoch(0)[0])
    assert entries(one.epoch(0)[0]) != entries(one.epoch(1)[0])
    assert entries(one.epoch(0)[0]) != entries(other.epoch(0)[0])


def test_a_step_is_found_again_from_the_counted_epochs_without_planning_them():
    first = Order(corpus(500), DATA, 1, 4)
    first.total_steps(40)
    step = sum(first.counted[:39]) + 3
    later = Order(corpus(500), DATA, 1, 4, first.counted)
    planned = []
    later._count_rows = later._lay = lambda epoch: planned.append(epoch) or Order._lay(later, epoch)
    assert later.locate(step) == (39, 2)
    assert entries(later.batch(step)) == entries(first.batch(step))
    assert planned == [39]


def test_steps_of_all_epochs_add_up():
    order = Order(corpus(300), DATA, 3, 7)
    assert order.total_steps(3) == sum(len(order.epoch(epoch)) for epoch in range(3))
    assert order.locate(order.total_steps(2) + 1) == (2, 0)


def test_a_mix_repeats_domains_by_their_weights():
    order = Order(corpus(400), replace(DATA, mix={"odd": 0.5, "even": 2}), 1, 4)
    seen = np.bincount(entries([row for batch in order.epoch(0) for row in batch]), minlength=400)
    assert (seen[::2] == 2).all()
    assert seen[1::2].sum() == 100


@pytest.mark.parametrize("mix", [{"odd": 0.0, "even": 0.0}, {"odd": 0.1, "even": 0.1}])
@pytest.mark.parametrize("packing", [True, False])
def test_a_mix_that_leaves_an_epoch_empty_is_refused(mix, packing):
    with pytest.raises(YayiError, match="--mix: its weights leave epoch 1 none of the 2 conversations"):
        Order(corpus(2), replace(DATA, mix=mix, packing=packing), 1, 4)


def test_a_later_epoch_that_a_mix_leaves_empty_is_refused():
    order = Order(corpus(1), replace(DATA, mix={"even": 1e-6, "odd": 0.0}), 1, 4, [1])
    with pytest.raises(YayiError, match="leave epoch 2 none of the 1 conversations"):
        order.locate(2)


@given(examples=st.integers(1, 60), rows=st.integers(1, 9), packing=st.booleans())
def test_a_step_is_where_its_epoch_has_it(examples, rows, packing):
    order = Order(corpus(examples), replace(DATA, packing=packing), 2, rows)
    batches = [batch for epoch in range(3) for batch in order.epoch(epoch)]
    assert len(batches) == order.total_steps(3)
    later = Order(corpus(examples), replace(DATA, packing=packing), 2, rows)
    for step, batch in enumerate(batches, start=1):
        assert entries(later.batch(step)) == entries(batch)


def test_the_denominator_is_the_batchs_supervised_tokens():
    made = corpus(50)
    batch = Order(made, DATA, 1, 4).batch(2)
    assert supervised_tokens(made, batch) == sum(int(made.index.supervised_tokens[i]) for i in entries(batch))


@pytest.mark.parametrize("packing", [True, False])
def test_an_evaluation_has_every_conversation_once(packing):
    made = corpus(90)
    rows = rows_of(made, made.train[10:], replace(DATA, packing=packing), 1)
    assert sorted(entries(rows)) == list(range(10, 90))
    assert all(made.index.tokens[row].sum() <= DATA.seq_len for row in rows)
    assert rows_of(made, made.test, replace(DATA, packing=packing), 1) == []


class TestOpening:
    @pytest.fixture
    def open_with(self, packed):
        return lambda **changes: open_corpus(packed, replace(DATA, seq_len=512, **changes), seed=1)

    def test_the_test_split_is_apart_and_follows_the_seed(self, open_with):
        made = open_with(test_size=5)
        assert len(made.test) == 5
        assert sorted([*made.train, *made.test]) == list(range(40))
        assert made.test.tolist() == open_with(test_size=5).test.tolist()
        assert len(open_with(test_size=0.25).test) == 10

    def test_only_chosen_domains_are_trained_on(self, open_with):
        made = open_with(domains=["媒体宣传"])
        assert {made.index.names[code] for code in made.index.domain[made.train]} == {"媒体宣传"}

    def test_a_limit_takes_the_first_conversations(self, open_with):
        assert open_with(limit=7).train.tolist() == list(range(7))

    def test_a_conversation_knows_its_source_line(self, open_with):
        assert place_of(open_with(), 3)[1:] == (4, 3)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"test_size": 40}, "--test-size 40: there are 40 conversations"),
            ({"test_size": 41}, "--test-size 41: there are 40 conversations"),
            ({"domains": ["nowhere"]}, "--train-on-domains: .* has no domain nowhere; it has general"),
            ({"mix": {"nowhere": 2.0}}, "--mix: the data has no domain nowhere"),
            (
                {"seq_len": 90},
                r"\d+ of 40 conversations are longer than --seq-len 90 \(the longest, .*jsonl:\d+, has",
            ),
        ],
    )
    def test_what_the_data_cannot_give_is_refused(self, packed, changes, message):
        with pytest.raises(YayiError, match=message):
            open_corpus(packed, replace(DATA, **({"seq_len": 512} | changes)), seed=1)

    def test_a_changed_shard_is_refused_before_its_first_row_is_used(self, make_packed, tmp_path):
        folder = make_packed(tmp_path / "data", [{"instruction": "a", "output": "b"}] * 3)
        shard = folder / "data-00000.arrow"
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
        made = open_corpus(folder, DATA, seed=1)
        with pytest.raises(DataError, match="sha256"):
            place_of(made, 0)
