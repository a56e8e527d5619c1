from pathlib import Path

import pytest

from yayi_data.errors import YayiError
from yayi_data.template import FOLDER, load_template, template_toml

GOOD = (FOLDER / "chatml.toml").read_text(encoding="utf-8")
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))


def write(folder: Path, content: str) -> str:
    path = folder / "mine.toml"
    path.write_text(content, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", NAMES)
def test_every_template_that_comes_with_the_tool_loads_under_its_own_name(name: str) -> None:
    assert load_template(name).name == name


def test_a_file_of_ones_own_is_a_template_like_any(tmp_path: Path) -> None:
    mine, theirs = load_template(write(tmp_path, f"# mine\n{GOOD}")), load_template("chatml")
    assert (mine.fingerprint, mine.roles) == (theirs.fingerprint, theirs.roles)


def test_the_fingerprint_follows_what_the_template_says(tmp_path: Path) -> None:
    changed = load_template(write(tmp_path, GOOD.replace("assistant\\n", "assistant:\\n")))
    assert changed.fingerprint != load_template("chatml").fingerprint
    assert len({load_template(name).fingerprint for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_template_written_out_reads_back_as_itself(tmp_path: Path, name: str) -> None:
    template = load_template(name)
    again = load_template(write(tmp_path, template_toml(template)))
    assert again.fingerprint == template.fingerprint


def test_tool_roles_left_out_wear_the_headers_of_reply_and_question() -> None:
    roles = load_template("yayi").roles
    assert (roles["tool_call"], roles["tool_result"]) == (roles["assistant"], roles["user"])


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('name = "chatml"', 'name = "chatml"\ncolour = 1', 7, "unknown key colour"),
        ('end = "<|im_end|>"', "", 1, "the key end is missing"),
        ('end = "<|im_end|>"', "end = 3", 8, "end is int, expected str"),
        ('end = "<|im_end|>"', 'end = "</s>"', 8, "end is </s>, which control does not list"),
        ('["<|im_start|>", "<|im_end|>"]', '["<|im_end|>", "<|im_end|>"]', 7, "names a token twice"),
        ('["<|im_start|>", "<|im_end|>"]', "[]", 7, "must list the control tokens"),
        ('tools = "\\n\\n# Tools\\n\\n{text}"', 'tools = "x"', 10, "tools must contain {text}"),
        ("[roles]", '[existing]\n"<|im_end|>" = "bos"\n[roles]', 13, "to an id or to eos"),
        ("user = ", "human = ", 14, "unknown role human"),
        ("user\\n{text}", "user\\n", 14, "user must be a string with {text} in it once"),
        ('user = "<|im_start|>', 'user = "', 14, "user must begin with a control token"),
        ("assistant\\n{text}<|im_end|>", "assistant\\n{text}", 15, "must have the end token <|im_end|>"),
        (
            "tool_result =",
            'tool_call = "<|im_start|>tool\\n{text}<|im_end|>"\ntool_result =',
            16,
            "must begin as assistant",
        ),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(YayiError) as caught:
        load_template(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert message in str(caught.value)


def test_a_missing_role_is_told_where_the_roles_begin(tmp_path: Path) -> None:
    path = write(tmp_path, "\n".join(line for line in GOOD.splitlines() if not line.startswith("user")))
    with pytest.raises(YayiError, match=r":12: the role user is missing"):
        load_template(path)


def test_what_is_not_toml_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(YayiError, match=r"not valid TOML: .*line 2"):
        load_template(write(tmp_path, 'name = "x"\n???'))


@pytest.mark.parametrize("name", ["nope", "nope.toml"])
def test_a_template_that_is_not_there_is_one_sentence(name: str) -> None:
    with pytest.raises(YayiError, match=r"yayi2|cannot read the template: No such file"):
        load_template(name)


def test_the_documented_file_loads_and_every_template_is_documented(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "templates.md").read_text(encoding="utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]
    assert load_template(write(tmp_path, example)).roles["user"] == "<|Human|>:\n{text}\n\n"
    assert [name for name in NAMES if f"| `{name}` |" not in page] == []
