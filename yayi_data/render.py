"""A conversation and a template become text pieces between control tokens (pure).

The loss mask is born here: each piece and each control token already knows whether it is supervised.
"""

from yayi_data.template import Control, Layout, Rendered, Template, TrainOn, layout, prompt_layout
from yayi_data.types import Conversation

__all__ = ["Rendered", "prompt", "render", "text"]


def render(conversation: Conversation, template: Template, train_on: TrainOn = "all") -> Rendered:
    """Render a conversation for training; an empty system means the template's default."""
    roles, texts, train = zip(*conversation.turns, strict=True)
    system = _system(conversation, template)
    shape = layout(template, roles, train, system != "", train_on)
    return _fill(shape, (system, *texts, ""))


def prompt(conversation: Conversation, template: Template) -> Rendered:
    """Render a conversation up to where the next reply would begin: what generation continues."""
    roles, texts, _ = zip(*conversation.turns, strict=True)
    system = _system(conversation, template)
    return _fill(prompt_layout(template, roles, system != ""), (system, *texts, ""))


def text(rendered: Rendered) -> str:
    """Return the whole rendered string, control tokens included."""
    texts = iter(rendered.texts)
    return "".join(e.token if isinstance(e, Control) else next(texts) for e in rendered.layout.elements)


def _fill(shape: Layout, values: tuple[str, ...]) -> Rendered:
    return Rendered(shape, [f"{before}{values[i]}{after}" for before, i, after in shape.slots])


def _system(conversation: Conversation, template: Template) -> str:
    system = conversation.system or template.default_system
    return system + template.tools.replace("{text}", conversation.tools) if conversation.tools else system
