"""Request a probe of the service in this container; exit 0 if it answers 200.

For the image's HEALTHCHECK, since the image has no curl.
"""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_SECONDS = 4.0


def main() -> int:
    """Request the path given as the only argument, on the port that the service listens on."""
    (path,) = sys.argv[1:]
    port = int(os.environ.get("OVERLOCK_PORT", "8000"))
    # No urllib: it would send this to the proxy that a variable may name.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except OSError as error:
        sys.stderr.write(f"{path}: {error}\n")
        return 1
    if status != 200:
        sys.stderr.write(f"{path}: status {status}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
