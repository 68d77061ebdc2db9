"""What may be imported: files that somebody else may have written name classes, and to import them is to run code."""

from collections.abc import Mapping

from pixmix_ray.errors import RequestError, one_line


def check_trusted(values: object, where: str, *, is_trusted: bool, way_out: str = "add --trust") -> None:
    """Refuse JSON values that describe parts if reading them would import what they name, and nobody trusts them.

    Args:
        values: as read from a file.
        where: which file, for the message.
        is_trusted: whether the user said that it may be done.
        way_out: how the user says so.

    Raises:
        RequestError: they name code, and are not trusted.
    """
    if not is_trusted and (named := named_code(values)):
        raise RequestError(f"{where} asks to import {one_line(named[0])!r}: if you trust it, {way_out}")


def named_code(values: object) -> list[str]:
    """What reading JSON values that describe parts would import: the names `module:Class`, and trials to be trusted.

    >>> named_code({"model": {"name": "theirs:Net"}, "mixing_set": {"name": "join", "sets": [{"name": "fractals"}]}})
    ['theirs:Net']
    >>> named_code({"mixing_set": {"name": "fvis", "trial": "results/trials/a", "trust": True}})
    ['results/trials/a']
    """
    if isinstance(values, Mapping):
        name = values.get("name")
        own = [name] if isinstance(name, str) and ":" in name else []
        if values.get("trust"):
            own.append(str(values.get("trial")))
        return own + [found for value in values.values() for found in named_code(value)]
    if isinstance(values, list):
        return [found for value in values for found in named_code(value)]
    return []
