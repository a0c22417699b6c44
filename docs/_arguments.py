"""For the reference of the site: what a docstring says of each argument becomes an item of a list of its own."""

import re

from griffe import Extension, Function, Object


class Arguments(Extension):
    """`name: what it is`, where a line or a sentence begins with it, of the function's own parameters."""

    def on_instance(self, *, obj: Object, **kwargs: object) -> None:
        if obj.docstring is not None and (names := _names(obj)):
            obj.docstring.value = listed(obj.docstring.value, names)


def _names(obj: Object) -> list[str]:
    """The parameters of a function, or those that a class is made with."""
    made = obj if isinstance(obj, Function) else obj.members.get("__init__")
    named = made.parameters if isinstance(made, Function) else ()
    return [parameter.name.lstrip("*") for parameter in named if parameter.name != "self"] or _fields(obj)


def _fields(obj: Object) -> list[str]:
    return [name for name, member in obj.members.items() if member.is_attribute] if obj.is_class else []


def listed(text: str, names: list[str]) -> str:
    """The docstring with an item for each argument, and a paragraph for what it raises."""
    name = rf"`?(?:{'|'.join(map(re.escape, names))})`?"
    told = re.sub(rf"(?:^|(?<=[.;)])[ ])({name}(?:, {name})*):[ \n]", _item, text, flags=re.MULTILINE)
    return re.sub(r"\n(?=Raises? )", "\n\n", told)


def _item(found: re.Match[str]) -> str:
    return f"\n\n- **{found[1].replace('`', '')}**: "
