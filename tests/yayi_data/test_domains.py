from pathlib import Path

import pytest

from yayi_data.domains import GENERAL, Tag, load_registry
from yayi_data.errors import YayiError
from yayi_data.types import Conversation, Turn

REGISTRY = load_registry()


def asking(text: str) -> Conversation:
    return Conversation((Turn("user", text), Turn("assistant", "好的。")))


def user_file(folder: Path, text: str) -> str:
    path = folder / "domains.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("【媒宣领域任务】写一则新闻", "媒体宣传"),
        ("【舆情领域任务】判断情感", "舆情分析"),
        ("【安全领域任务】识别风险", "公共安全"),
        ("【金融领域任务】解释利率", "金融风控"),
        ("【城市治理领域任务】工单分类", "城市治理"),
        ("【 媒宣领域任务 】写一则新闻", "媒体宣传"),
        ("【医疗领域任务】解释处方", "医疗领域任务"),
        ("写一则新闻", GENERAL),
        ("写【媒宣领域任务】新闻", GENERAL),
        ("", GENERAL),
        ("【", GENERAL),
        ("【】空", GENERAL),
        ("【 】空", GENERAL),
        ("【没有右括号", GENERAL),
        ("【媒宣领域任务，", GENERAL),
        ("【" + "长" * 33 + "】", GENERAL),
        ("【两\n行】", GENERAL),
    ],
)
def test_domain_is_the_one_of_the_leading_tag(text: str, domain: str) -> None:
    assert REGISTRY.domain_of(asking(text)) == domain


def test_domain_comes_from_the_first_user_turn() -> None:
    turns = (
        Turn("assistant", "【金融领域任务】"),
        Turn("user", "【舆情领域任务】问"),
        Turn("user", "【安全领域任务】"),
    )
    assert REGISTRY.domain_of(Conversation(turns)) == "舆情分析"
    assert REGISTRY.domain_of(Conversation(turns[:1])) == GENERAL
    assert REGISTRY.domain_of(Conversation(())) == GENERAL


def test_parse_gives_the_name_and_where_the_text_goes_on() -> None:
    assert REGISTRY.parse("【媒宣领域任务】写") == Tag("媒宣领域任务", 8)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("媒宜领域任务", "媒宣领域任务"),
        ("金融领域任物", "金融领域任务"),
        ("城市治里领域任务", "城市治理领域任务"),
        ("医疗领域任务", None),
    ],
)
def test_nearest_hints_at_typos_and_not_at_other_subjects(name: str, near: str | None) -> None:
    assert REGISTRY.nearest(name) == near


def test_add_then_strip_gives_the_text_back() -> None:
    tagged = REGISTRY.add(" 写一则新闻\n", "媒体宣传")
    assert tagged == "【媒宣领域任务】 写一则新闻\n"
    assert REGISTRY.strip(tagged) == " 写一则新闻\n"


def test_add_writes_one_wording_and_keeps_tags_of_others() -> None:
    assert REGISTRY.add("【媒体宣传】写", "媒宣") == "【媒宣领域任务】写"
    assert REGISTRY.add("【金融领域任务】写", "媒体宣传") == "【金融领域任务】写"
    assert REGISTRY.add("【不认识】写", "媒体宣传") == "【不认识】写"


def test_strip_leaves_what_the_registry_does_not_know() -> None:
    assert REGISTRY.strip("【今日要闻】三则") == "【今日要闻】三则"


def test_adding_an_unknown_domain_is_refused_with_the_known_ones() -> None:
    with pytest.raises(YayiError, match=r"unknown domain '医疗'.*媒体宣传"):
        REGISTRY.add("写", "医疗")


def test_user_file_adds_domains_and_wordings_and_moves_a_wording(tmp_path: Path) -> None:
    path = user_file(
        tmp_path, '["医疗健康"]\ntags = ["医疗领域任务", "风控领域任务"]\n["媒体宣传"]\ntags = ["宣传任务"]\n'
    )
    registry = load_registry(path)
    assert registry.domain_of(asking("【医疗领域任务】问")) == "医疗健康"
    assert registry.domain_of(asking("【风控领域任务】问")) == "医疗健康"
    assert registry.domain_of(asking("【媒宣领域任务】问")) == "媒体宣传"
    assert registry.add("问", "媒体宣传") == "【宣传任务】问"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a\n", "not valid TOML.*line 1"),
        ('["a"]\ntag = ["x"]\n', "domain a: expected tags = "),
        ('["a"]\ntags = []\n', "at least one tag"),
        ("a = 1\n", "domain a: expected tags = "),
        ('["a"]\ntags = ["x】"]\n', "1 to 32 characters"),
        ('["a"]\ntags = [3]\n', "1 to 32 characters"),
        ('["a"]\ntags = ["x"]\n["b"]\ntags = ["x"]\n', "under a and b"),
        ('["general"]\ntags = ["x"]\n', "without a tag"),
    ],
)
def test_bad_user_file_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = user_file(tmp_path, text)
    with pytest.raises(YayiError, match=message) as caught:
        load_registry(path)
    assert str(caught.value).startswith(path)


def test_missing_user_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(YayiError, match="cannot read the domain file"):
        load_registry(str(tmp_path / "absent.toml"))
