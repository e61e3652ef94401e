"""The line that a run ends with, also where it is stopped."""

from __future__ import annotations

from typing import Any

from service.commands.batch.failure_limit import NO_FAILURES, FailureLimit


def summary_line(
    manifest: dict[str, Any],
    folder: str,
    done_images: int,
    seconds: float,
    dataset: str | None = None,
    failure_limit: FailureLimit = NO_FAILURES,
) -> str:
    """Return one sentence: images, images a second, failures by reason, where.

    Args:
        manifest: of the run.
        folder: the output folder's name.
        done_images: images of this run; the others were done before.
        seconds: that these took.
        dataset: name of a file in the folder that was asked for beside the results.
        failure_limit: of the failed images; named if it is exceeded and not 0.
    """
    images, failed = manifest["images"], manifest["failed"]
    speed = f" at {done_images / seconds:.3g} a second" if done_images and seconds else ""
    before = images - done_images
    now = f", {before} of them before" if before and done_images else ""
    if not done_images and images:
        now = ", all of them before"
    reasons = ", ".join(f"{slug} {count}" for slug, count in failed.items())
    lost = f"{sum(failed.values())} failed ({reasons})" if failed else "none failed"
    if failure_limit != NO_FAILURES and not failure_limit.allows(sum(failed.values()), images):
        lost += f", more than --max-failed {failure_limit.text}"
    beside = "" if dataset is None else f", {dataset} beside them"
    noun = "image" if images == 1 else "images"
    return f"{images} {noun}{speed}{now}; {lost}; results in {folder}{beside}."


def stopped_line(done_images: int, images: int) -> str:
    """Return one sentence for a run that Ctrl-C or SIGTERM stops.

    Args:
        done_images: in the parts that are there.
        images: of the run.
    """
    return f"Stopped with {done_images} of {images} images done; the same command continues it."
