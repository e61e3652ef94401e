"""Start a service, attack it with damaged images and damaged calls, and print the reports.

``make fuzz``
"""

from __future__ import annotations

import argparse

from support.hostile_calls import hostile_calls
from support.hostile_images import hostile_images
from support.hostile_requests import ROUND, attack
from support.running_service import RunningService

SEQUENCES = {"images": hostile_images, "calls": hostile_calls}


def main() -> None:
    """Run the attacks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help=f"{' or '.join(SEQUENCES)}; both by default")
    parser.add_argument("--count", type=int, default=10_000, help="requests of each")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for name in arguments.what or SEQUENCES:
        with RunningService(segment_model="off", default_timeout_seconds=50) as service:
            requests = SEQUENCES[name](arguments.seed)
            report = attack(service, requests, arguments.count)
        print(f"{name}: {dict(sorted(report.statuses.items()))}")
        print(f"slowest: {report.slowest_seconds:.2f} s")
        megabytes = [f"{size / 2**20:.0f}" for size in report.memory_bytes]
        print(f"HTTP worker's memory after every {ROUND}: {', '.join(megabytes)} MB")
        growth = report.growth_bytes_per_request
        print(f"growth over the second half: {growth:.0f} bytes a request")
        for failed in report.failed:
            print(f"5xx: {failed.path} {failed.headers} {failed.body[:500]!r}")


if __name__ == "__main__":
    main()
