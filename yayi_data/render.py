"""A conversation and a template become text pieces between control tokens (pure).

The loss mask is born here: each piece and each control token already knows whether it is supervised.
"""

from collections.abc import Iterator

from yayi_data.template import Control, Layout, Piece, Rendered, Template, TrainOn, layout, prompt_layout
from yayi_data.types import Conversation

__all__ = ["Rendered", "prompt", "render", "text"]


def render(conversation: Conversation, template: Template, train_on: TrainOn = "all") -> Rendered:
    """Render a conversation for training; an empty system means the template's default."""
    roles, texts, train = zip(*conversation.turns)  # noqa: B905 - the check takes as long as the work
    system = _own_system(conversation, template)
    shape = layout(template, roles, train, system != "", train_on)
    return _fill(shape, (system, *texts, ""))


def prompt(conversation: Conversation, template: Template) -> Rendered:
    """Render a conversation up to where the next reply would begin: what generation continues."""
    roles, texts, _ = zip(*conversation.turns, strict=True)
    system = _own_system(conversation, template)
    return _fill(prompt_layout(template, roles, system != ""), (system, *texts, ""))


def text(rendered: Rendered) -> str:
    """Return the whole rendered string, control tokens included."""
    return "".join(parts(rendered))


def parts(rendered: Rendered) -> Iterator[str]:
    """Yield the control tokens and the texts between them, in order."""
    texts = iter(rendered.texts)
    for element in rendered.layout.elements:
        match element:
            case Control():
                yield element.token
            case Piece():
                yield next(texts)
            case _:
                yield element.text


def _fill(shape: Layout, values: tuple[str, ...]) -> Rendered:
    return Rendered(shape, [f"{before}{values[i]}{after}" for before, i, after in shape.slots])


def _own_system(conversation: Conversation, template: Template) -> str:
    """Return the system text that is this conversation's own, "" where the default stands as it is."""
    if not conversation.tools:
        return conversation.system
    system = conversation.system or template.default_system
    return system + template.tools.replace("{text}", conversation.tools)
