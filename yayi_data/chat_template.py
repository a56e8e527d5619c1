"""A template written for others: the Jinja that `apply_chat_template` reads, and the TOML that we read."""

import json
import re
from collections.abc import Mapping, Sequence

from yayi_data.template import Template


def chat_template(template: Template, names: Mapping[str, str], bos: bool) -> str:
    """Return the Jinja that renders messages as `render` does.

    `names` is what the tokenizer calls the template's control tokens; `bos` tells that it puts one first. The
    roles are system, user, assistant and tool, with plain text as content.
    """
    spelled = {role: _named(text, names) for role, text in template.roles.items()}
    branches = "".join(
        f"{{%- elif message.role == '{role}' %}}{_filled(spelled[ours], 'message.content')}"
        for role, ours in (("user", "user"), ("assistant", "assistant"), ("tool", "tool_result"))
    )
    return (
        ("{{- bos_token }}" if bos else "")
        + f"{{%- set system = {_literal(template.default_system)} %}}"
        + "{%- if messages and messages[0].role == 'system' and messages[0].content %}"
        + "{%- set system = messages[0].content %}{%- endif %}"
        + "{%- if system %}"
        + _filled(spelled["system"], "system")
        + "{%- endif %}{%- for message in messages %}{%- if message.role == 'system' %}"
        + "{%- if not loop.first %}{{- raise_exception('system must come first') }}{%- endif %}"
        + branches
        + "{%- else %}{{- raise_exception('unknown role ' ~ message.role) }}{%- endif %}{%- endfor %}"
        + "{%- if add_generation_prompt %}"
        + f"{{{{- {_literal(_named(template.opening, names))} }}}}{{%- endif %}}"
    )


def _named(text: str, names: Mapping[str, str]) -> str:
    tokens = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.sub(tokens, lambda found: names[found.group()], text)


def _filled(role: str, expression: str) -> str:
    before, _, after = role.partition("{text}")
    return f"{{{{- {_literal(before)} ~ {expression} ~ {_literal(after)} }}}}"


def template_toml(template: Template) -> str:
    """Return a TOML file that `load_template` reads back as the same template."""
    values = {
        "name": template.name,
        "control": list(template.control),
        "end": template.end,
        "default_system": template.default_system,
        "tools": template.tools,
    }
    lines = [f"{key} = {_literal(value)}" for key, value in values.items()]
    for name, table in (("existing", template.existing), ("roles", template.roles)):
        lines += ["", f"[{name}]", *(f"{_literal(key)} = {_literal(value)}" for key, value in table.items())]
    return "\n".join([*lines, ""])


def _literal(value: str | int | Sequence[str]) -> str:
    """Return a string, a number or a list of strings as JSON, TOML and Jinja all write it."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
