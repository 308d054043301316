"""Validation errors (pydantic) in this project's own words: where something is wrong, and what would be right.

The messages repeat next to nothing of what was sent, which may be long or secret, and name no library.
"""

from collections.abc import Mapping, Sequence
from typing import Any

MAX_MISTAKES, MAX_MISTAKE_CHARACTERS = 5, 300
"""Mistakes of one request that are listed, and the length of each: an answer stays short."""
MAX_TAG_CHARACTERS = 20
"""Of an unknown kind of something that are repeated."""
_TEXTS = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "enum": "must be {expected}",
    "extra_forbidden": "is not known here: leave it out",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_type": "must be a whole number",
    "json_invalid": "is no JSON: {error}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "missing": "is missing: send it",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "multiple_of": "must be a multiple of {multiple_of}",
    "none_required": "must be null",
    "path_type": "must be a path",
    "string_pattern_mismatch": "must match {pattern}",
    "string_sub_type": "must be text",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "must be text",
    "string_unicode": "must be text in Unicode",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entries",
    "tuple_type": "must be a list",
    "union_tag_invalid": "{discriminator} must be one of {expected_tags}, not {tag!r}",
    "union_tag_not_found": "needs {discriminator}, which says what it is",
}
"""By pydantic's type of the error, with the names of its context."""
_OWN = ("assertion_error", "value_error")
"""Types whose message is written where the value is checked."""


def mistake_text(mistake: Mapping[str, Any]) -> str:
    """One error of `ValidationError.errors()` without its place, as "must be at least 1".

    >>> mistake_text({"type": "greater_than_equal", "ctx": {"ge": 1.0}})
    'must be at least 1'
    """
    given = mistake.get("ctx") or {}
    context = {name: f"{value:g}" if isinstance(value, float) else value for name, value in given.items()}
    if isinstance(tag := context.get("tag"), str) and len(tag) > MAX_TAG_CHARACTERS:
        context["tag"] = f"{tag[:MAX_TAG_CHARACTERS]}…"
    if mistake["type"] in _OWN:
        return str(context.get("error", "is not what is taken here"))
    text = _TEXTS.get(mistake["type"])
    return text.format_map(context) if text else "is not what is taken here"


def mistakes_text(mistakes: Sequence[Mapping[str, Any]]) -> str:
    """The errors of `ValidationError.errors()` in one line, each with its place, as "query.top_k: must be …"."""
    texts = []
    for mistake in mistakes[:MAX_MISTAKES]:
        where = ".".join(map(str, mistake["loc"]))
        texts.append(f"{where}: {mistake_text(mistake)}" if where else mistake_text(mistake))
    if left := len(mistakes) - len(texts):
        texts.append(f"and {left} more")
    return "; ".join(_cut(each) for each in texts)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MISTAKE_CHARACTERS else f"{text[:MAX_MISTAKE_CHARACTERS]}…"
