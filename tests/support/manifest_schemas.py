"""Strict validation of objects by the cluster's schemas: an unknown field is a mistake."""

from __future__ import annotations

import json

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]

from support.manifests import ROOT, Object

KUBERNETES = ("1.30", "1.33", "1.34", "1.35", "1.36", "1.37")
"""The oldest that knows all that is used (preStop's sleep), and those that are in use."""

SCHEMAS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in (ROOT / "tests/unit/k8s/schemas").glob("*.json")
}
"""Schemas of the kinds that are not Kubernetes' own, by name."""


def validate(each: Object, version: str) -> None:
    """Compare an object with its schema.

    Args:
        each: the object.
        version: of Kubernetes.

    Raises:
        jsonschema.ValidationError: if a field is unknown, missing or of another type.
    """
    schema = SCHEMAS.get(each["kind"].lower())
    if schema is None:
        kubernetes_validate.validate(each, version, strict=True)
    else:
        jsonschema.validate(each, schema)
