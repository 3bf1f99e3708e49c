"""The API's description as one plain HTML page: no script, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d2733; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; } h3 { margin: 2rem 0 .3rem; font-size: 1rem; }
code { font: 14px ui-monospace, monospace; background: #f0f3f6; padding: .1rem .25rem; border-radius: .2rem; }
h3 code b { color: #0a58a6; } table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; border-top: 1px solid #d7dde3; padding: .25rem .75rem .25rem 0; }
details { margin: .3rem 0; } summary { cursor: pointer; }
@media (prefers-color-scheme: dark) {
  body { background: #12171d; color: #d8dee6; } code { background: #222b35; } h3 code b { color: #7cb8f5; }
  td, th { border-color: #303a45; } a { color: #7cb8f5; }
}
"""


def render(document: Mapping[str, Any]) -> tuple[bytes, str]:
    """The page for an OpenAPI document, and the content security policy under which it is complete."""
    info = document["info"]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{_prose(info['description'])}</p>",
        '<p>For programs: <a href="/openapi.json">openapi.json</a></p><h2>Requests</h2>',
        *_operations(document["paths"]),
        "<h2>Shapes</h2>",
        *_schemas(document["components"]["schemas"]),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>jobmgr API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>"
    )
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    return (
        page.encode(),
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'",
    )


def _operations(paths: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield f"<h3><code><b>{method.upper()}</b> {escape(path)}</code></h3><p>{_prose(operation['summary'])}</p>"
            yield _parameters(operation.get("parameters", []))
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                yield f"<p>Body <code>{escape(media)}</code>: {_shape(content.get('schema', {}))}</p>"
            yield "<details><summary>Answers</summary><table>"
            for status, response in operation["responses"].items():
                yield f"<tr><td>{escape(status)}</td><td>{_prose(response['description'])}</td><td>"
                for media, content in response.get("content", {}).items():
                    yield f"<code>{escape(media)}</code> {_shape(content.get('schema', {}))} "
                yield "</td></tr>"
            yield "</table></details>"


def _parameters(parameters: list[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{parameter['in']}</td>"
        f"<td>{_shape(parameter['schema'])}</td><td>{_prose(parameter.get('description', ''))}</td></tr>"
        for parameter in parameters
    )
    return f"<table>{rows}</table>" if rows else ""


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        yield f'<h3 id="{escape(name)}"><code>{escape(name)}</code></h3><p>{_prose(schema.get("description", ""))}</p>'
        if "enum" in schema:
            yield f"<p>{_shape(schema)}</p>"
        rows = "".join(
            f"<tr><td><code>{escape(field)}</code>{' (required)' if field in schema.get('required', ()) else ''}</td>"
            f"<td>{_shape(shape)}</td><td>{_prose(shape.get('description', ''))}</td></tr>"
            for field, shape in schema.get("properties", {}).items()
        )
        yield f"<table>{rows}</table>" if rows else ""


def _shape(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_shape(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    kind = str(schema.get("type", "anything"))
    text = f"{kind} of {_shape(schema['items'])}" if "items" in schema else escape(kind)
    facts = [f"{name} {schema[name]}" for name in _FACTS if schema.get(name) not in (None, "", [], {})]
    return f"{text} ({escape(', '.join(facts))})" if facts else text


_FACTS = (
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "minLength",
    "maxLength",
    "maxItems",
    "pattern",
    "format",
    "default",
)


def _prose(text: str) -> str:
    # Only the backticks of our own sentences are marked up.
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))
