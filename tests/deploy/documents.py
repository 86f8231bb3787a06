"""YAML files, and a way into them that says where something is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own


def documents(text: str) -> list[dict[str, object]]:
    """Return the documents of a YAML text; raises AssertionError when one is no mapping."""
    found = [document for document in yaml.safe_load_all(text) if document is not None]
    assert all(isinstance(document, dict) for document in found), text
    return cast("list[dict[str, object]]", found)


def read(path: Path) -> dict[str, object]:
    """Return the only document of a file."""
    (found,) = documents(path.read_text(encoding="utf-8"))
    return found


def at(value: object, path: str) -> object:
    """Follow a path like `spec.ports.0.name`; raises AssertionError where it ends early."""
    for step in path.split("."):
        if isinstance(value, list):
            assert int(step) < len(value), f"no {step} of {path} in {value}"
            value = value[int(step)]
        else:
            assert isinstance(value, dict), f"no {step} of {path} in {value}"
            assert step in value, f"no {step} of {path} in {sorted(value)}"
            value = value[step]
    return value


def mapping(value: object, path: str = "") -> dict[str, object]:
    """Return what is there, which has to be a mapping; {} when there is nothing."""
    found = _maybe(value, path, {})
    assert isinstance(found, dict), f"{path} is no mapping: {found}"
    return found


def items(value: object, path: str = "") -> list[object]:
    """Return what is there, which has to be a list; [] when there is nothing."""
    found = _maybe(value, path, [])
    assert isinstance(found, list), f"{path} is no list: {found}"
    return found


def text(value: object, path: str) -> str:
    """Return what is there, which has to be a text."""
    found = at(value, path)
    assert isinstance(found, str), f"{path} is no text: {found}"
    return found


def everywhere(value: object, key: str) -> Iterator[object]:
    """Yield the values of a key, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from everywhere(inner, key)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from everywhere(inner, key)


def _maybe(value: object, path: str, missing: object) -> object:
    for step in path.split(".") if path else ():
        value = value[int(step)] if isinstance(value, list) else mapping(value).get(step)
        if value is None:
            return missing
    return value
