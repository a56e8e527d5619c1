"""A template written for others: the Jinja that `apply_chat_template` reads, and the TOML that we read."""

import json
from collections.abc import Sequence

from yayi_data.template import Template


def chat_template(template: Template, bos: bool) -> str:
    """Return the Jinja that renders messages as `render` does; `bos` where the tokenizer puts one first.

    It knows the roles system, user, assistant and tool, with plain text as content.
    """
    roles = {"user": "user", "assistant": "assistant", "tool": "tool_result"}
    branches = "".join(
        f"{{%- elif message.role == '{role}' %}}{_filled(template.roles[ours], 'message.content')}"
        for role, ours in roles.items()
    )
    opening = template.roles["assistant"].partition("{text}")[0]
    return (
        ("{{- bos_token }}" if bos else "")
        + f"{{%- set system = {_literal(template.default_system)} %}}"
        + "{%- if messages and messages[0].role == 'system' and messages[0].content %}"
        + "{%- set system = messages[0].content %}{%- endif %}"
        + "{%- if system %}"
        + _filled(template.roles["system"], "system")
        + "{%- endif %}{%- for message in messages %}{%- if message.role == 'system' %}"
        + "{%- if not loop.first %}{{- raise_exception('system must come first') }}{%- endif %}"
        + branches
        + "{%- else %}{{- raise_exception('unknown role ' ~ message.role) }}{%- endif %}{%- endfor %}"
        + f"{{%- if add_generation_prompt %}}{{{{- {_literal(opening)} }}}}{{%- endif %}}"
    )


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
    roles = [f"{role} = {_literal(text)}" for role, text in template.roles.items()]
    return "\n".join([*lines, "", "[roles]", *roles, ""])


def _literal(value: Sequence[str]) -> str:
    """Return a string or a list of strings as JSON, TOML and Jinja all write it."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
