"""Strict YAML: the text of a fabric.yaml to plain values, duplicate keys refused. Knows no settings key."""

from __future__ import annotations

from typing import Any

import yaml


class BadYaml(ValueError):
    """Not one YAML document, or a mapping that names a key twice; the message says the line."""


class _Strict(yaml.SafeLoader):
    """SafeLoader that refuses a key named twice, where PyYAML silently lets the last one win."""


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
            continue
        key, line = key_node.value, key_node.start_mark.line + 1
        if key in seen:
            raise BadYaml(f"line {line}: {key!a} is already set on line {seen[key]}")
        seen[key] = line
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Strict.add_constructor("tag:yaml.org,2002:map", _mapping)


def load(text: str) -> Any:
    """Parse one document (YAML 1.1, as Fabric reads it). Raises BadYaml."""
    try:
        return yaml.load(text, _Strict)  # noqa: S506 - _Strict is a SafeLoader
    except yaml.YAMLError as error:
        raise BadYaml(" ".join(str(error).replace('in "<unicode string>", ', "at ").split())) from error
    except (RecursionError, ValueError) as error:
        if isinstance(error, BadYaml):
            raise
        raise BadYaml(f"unreadable value: {error}") from error
