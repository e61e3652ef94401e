"""Requests to a running service, and sums of its metrics."""

from __future__ import annotations

import http.client
import re


def get(port: int, path: str) -> str:
    """Return the answer of the service on this machine to a GET request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def sum_of(metric: str, exposition: str) -> float:
    """Return the sum of a metric's samples over all labels."""
    samples = re.findall(rf"^{metric}(?:{{.*}})? (\S+)$", exposition, re.MULTILINE)
    return sum(map(float, samples))
