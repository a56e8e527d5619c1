"""The documentation is part of the program: generated pages match the code, examples and links are there."""

import re
import runpy
from pathlib import Path

import pytest
from typer import Typer
from typer.main import get_command

from yayi_data.cli import app as data_app
from yayi_train.cli import app as train_app

ROOT = Path(__file__).resolve().parents[1]
PAGES = runpy.run_path(str(ROOT / "docs" / "generate.py"), run_name="generate")["PAGES"]
COMMANDS = [
    pytest.param(command, id=f"{name} {command.name}")
    for name, app in (("yayi-data", data_app), ("yayi-train", train_app))
    for command in get_command(app).commands.values()
]


@pytest.mark.parametrize("page", PAGES)
def test_a_generated_page_is_what_the_code_says(page: str) -> None:
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == PAGES[page](), "run make docs"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_and_explains_every_option(command: Typer) -> None:
    assert "Example: " in (command.help or "")
    for parameter in command.params:
        assert parameter.hidden if parameter.name == "local_rank" else parameter.help, parameter.name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_on_the_page_of_commands(
    command: Typer, request: pytest.FixtureRequest
) -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    section = page.partition(f"## {request.node.callspec.id}\n")[2].partition("\n## ")[0]
    options = [name for p in command.params if not p.hidden for name in p.opts if name.startswith("--")]
    assert [name for name in options if name not in section] == []
    assert "Usage: " in section


@pytest.mark.parametrize(
    "page", sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("**/*.md") if ".venv" not in p.parts)
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target
