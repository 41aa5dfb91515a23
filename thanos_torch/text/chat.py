"""Conversations as the text that a model's chat template makes of them."""

import hashlib
from typing import Any

from thanos_torch.runtime.errors import reason_of
from thanos_torch.text.documents import kind_of

# Some templates write the date. With today's, the same command would read another text tomorrow.
# So this macro stands in front of each template, in place of the function for it: 26 July 2024, as
# Llama's template has it where nobody says the date.
_DATE = {"%Y": "2024", "%m": "07", "%d": "26", "%B": "July", "%b": "Jul", "%A": "Friday"}
_FIXED_DATE = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f" | replace('{code}', '{value}')" for code, value in _DATE.items())
    + " }}{%- endmacro -%}"
)
# Names of role and content, and what the roles of data sets in the form of ShareGPT are called.
_KEYS = (("role", "content"), ("from", "value"))
_ROLES = {"human": "user", "gpt": "assistant"}
_SHOWN = 100  # characters of keys and reasons that a message shows


class Chat:
    """Renders conversations through a tokenizer's chat template; a `Render` of columns.

    A conversation is a list of messages, {"role": ..., "content": ...} or {"from": ..., "value":
    ...}. Content is a string, or a list of parts {"type": "text", "text": ...}, which are joined by
    line ends.

    sha256  of the template, for a report
    """

    def __init__(self, tokenizer: Any) -> None:
        """Raises ValueError if the tokenizer has no chat template."""
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError(
                "chat needs a chat template, and the model's tokenizer has none, as those of base "
                "models: take the chat version of the model"
            )
        try:
            template: str = tokenizer.get_chat_template()
        except (ValueError, AttributeError) as error:  # several, and none is the default
            raise ValueError(f"chat needs one chat template: {reason_of(error)}") from None
        self._tokenizer, self._template = tokenizer, _FIXED_DATE + template
        self.sha256 = hashlib.sha256(template.encode()).hexdigest()

    def __call__(self, conversation: Any, where: str) -> str:
        """The text of a conversation. Raises ValueError, which shows no content of messages."""
        if not isinstance(conversation, list) or not conversation:
            got = "an empty list" if conversation == [] else kind_of(conversation)
            raise ValueError(f"{where} must be a list of messages, got {got}")
        messages = [
            _message(each, f"{where}, message {number}")
            for number, each in enumerate(conversation, start=1)
        ]
        try:
            text: str = self._tokenizer.apply_chat_template(
                messages, tokenize=False, chat_template=self._template
            )
        except Exception as error:  # templates are programs
            # Only words of the template itself are shown: others may be those of the messages.
            said = str(error) if str(error) in self._template else type(error).__name__
            reason = said[:_SHOWN]
            raise ValueError(f"{where} does not fit the model's chat template: {reason}") from None
        return text


def _message(found: object, where: str) -> dict[str, Any]:
    """A message for the template, which may also look at its other keys."""
    if not isinstance(found, dict):
        raise ValueError(f'{where} must be {{"role": ..., "content": ...}}, got {kind_of(found)}')
    for role, content in _KEYS:
        if role in found and content in found:
            others = {key: value for key, value in found.items() if key not in (role, content)}
            name, text = found[role], _content(found[content], f"{where}, {content}")
            if not isinstance(name, str) or not name:
                got = "an empty one" if name == "" else kind_of(name)
                raise ValueError(f"{where} must have a string as its {role}, got {got}")
            return {**others, "role": _ROLES.get(name, name), "content": text}
    keys = repr(list(found))[:_SHOWN]
    raise ValueError(f'{where} must be {{"role": ..., "content": ...}}, got the keys {keys}')


def _content(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise ValueError(f"{where} must be a string, got {kind_of(content)}")
    texts = [part.get("text") if isinstance(part, dict) else None for part in content]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where} must be a string, or a list of parts that are all text")
    return "\n".join(texts)  # type: ignore[arg-type]
