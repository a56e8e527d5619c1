"""A template as the Jinja `chat_template` that transformers, TRL and vLLM read, replies marked for the loss.

It takes the messages dialect: OpenAI's roles, tool calls and tool results, and tool definitions as `tools`.
"""

import json
import re
from collections.abc import Mapping

from yayi_data.template import Template, cut

_SLOT = "{text}"

# One statement a line; the minus signs keep the line breaks out of what is rendered.
_SOURCE = """\
{{- PREFIX }}
{%- set turns, system = messages, "" %}
{%- if messages and messages[0].role in ["system", "developer"] %}
{%- set turns, system = messages[1:], messages[0].content or "" %}
{%- endif %}
{%- set system = system or DEFAULT_SYSTEM %}
{%- if tools %}
{%- set listed = namespace(text="") %}
{%- for tool in tools %}
{%- set comma = ", " if listed.text else "" %}
{%- set listed.text = listed.text + comma + ((tool.function or tool) | tojson) %}
{%- endfor %}
{%- set system = system + TOOLS_BEFORE + "[" + listed.text + "]" + TOOLS_AFTER %}
{%- endif %}
{%- if system %}
{{- SYSTEM_BEFORE + system + SYSTEM_AFTER }}
{%- endif %}
{%- for turn in turns %}
{%- set text = turn.content or "" %}
{%- if turn.role == "user" %}
{{- USER_BEFORE + text + USER_AFTER }}
{%- elif turn.role == "tool" %}
{{- TOOL_RESULT_BEFORE + text + TOOL_RESULT_AFTER }}
{%- elif turn.role == "assistant" %}
{%- if text or not turn.tool_calls %}
{{- OPENING }}
{%- generation %}{{- ASSISTANT_BEFORE + text + ASSISTANT_LEARNT }}{%- endgeneration %}
{{- ASSISTANT_AFTER }}
{%- endif %}
{%- if turn.tool_calls %}
{%- set called = namespace(text="") %}
{%- for call in turn.tool_calls %}
{%- set function = call.function or call %}
{%- set given = function.arguments %}
{%- set arguments = given if given is string else given | tojson %}
{%- set comma = ", " if called.text else "" %}
{%- set called.text = called.text + comma
    + '{"name": ' + (function.name | tojson) + ', "arguments": ' + arguments + "}" %}
{%- endfor %}
{%- set text = called.text if turn.tool_calls | length == 1 else "[" + called.text + "]" %}
{{- OPENING }}
{%- generation %}{{- TOOL_CALL_BEFORE + text + TOOL_CALL_LEARNT }}{%- endgeneration %}
{{- TOOL_CALL_AFTER }}
{%- endif %}
{%- else %}
{{- raise_exception("the roles are system, user, assistant and tool, found " + turn.role) }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- OPENING }}
{%- else %}
{{- SUFFIX }}
{%- endif %}"""


def chat_template(template: Template, names: Mapping[str, str], prefix: str = "", suffix: str = "") -> str:
    """Return the Jinja source.

    `names` maps the template's control tokens to what the tokenizer calls them; `prefix` and `suffix` are the
    tokens that the tokenizer puts around a text, which transformers leaves to the template.
    """
    roles = {role: _named(text, names) for role, text in template.roles.items()}
    opening, _ = roles["assistant"].split(_SLOT)
    texts = {
        "PREFIX": prefix,
        "SUFFIX": suffix,
        "OPENING": opening,
        "DEFAULT_SYSTEM": template.default_system,
    }
    for role, text in roles.items():
        before, after = text.split(_SLOT)
        if role in ("assistant", "tool_call"):
            learnt, end, after = after.partition(names[template.end])
            texts[f"{role}_LEARNT"] = learnt + end
            before = before.removeprefix(opening)
        texts[f"{role}_BEFORE"], texts[f"{role}_AFTER"] = before, after
    texts["TOOLS_BEFORE"], texts["TOOLS_AFTER"] = template.tools.split(_SLOT)
    literals = {name.upper(): json.dumps(text, ensure_ascii=False) for name, text in texts.items()}
    return re.sub(r"[A-Z][A-Z_]+", lambda found: literals[found[0]], _SOURCE)


def _named(text: str, names: Mapping[str, str]) -> str:
    return "".join(names.get(part, part) for part in cut(text, list(names)))
