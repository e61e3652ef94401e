"""The rendered manifests for ``overlock batch``, and the pods and the command that they make."""

from __future__ import annotations

import argparse
import shlex

from service.commands.batch.arguments import fill_parser
from support.manifests import Manifests, Object, objects

VARIANTS: dict[str, tuple[str, ...]] = {
    "job": ("batch/indexed-job",),
    "job on gpus": ("batch/indexed-job", "batch/gpu"),
    "ray": ("batch/ray-job",),
}
"""A folder of k8s, and the components with it."""

INDEX = "JOB_COMPLETION_INDEX"
"""The variable that Kubernetes adds to every pod of an Indexed Job."""


class BatchManifests(Manifests):
    """An Indexed Job or a RayJob, and what goes along."""

    @property
    def is_ray(self) -> bool:
        """Whether there is a RayJob."""
        return bool(self.all("RayJob"))

    @property
    def job(self) -> Object:
        """The specification of the Job, or of the RayJob."""
        spec: Object = self.one("RayJob" if self.is_ray else "Job")["spec"]
        return spec

    @property
    def cluster(self) -> Object:
        """The Ray cluster of a RayJob."""
        cluster: Object = self.job["rayClusterSpec"]
        return cluster

    @property
    def groups(self) -> list[Object]:
        """The groups of machines of a RayJob; the first is the head's."""
        return [self.cluster["headGroupSpec"], *self.cluster["workerGroupSpecs"]]

    @property
    def computing(self) -> list[Object]:
        """The templates of pods that run this program."""
        if not self.is_ray:
            return [self.job["template"]]
        return [group["template"] for group in self.groups]

    @property
    def templates(self) -> list[Object]:
        """The templates of all pods."""
        return [*self.computing, *([self.job["submitterPodTemplate"]] if self.is_ray else [])]

    @property
    def containers(self) -> list[Object]:
        """The container of each of ``templates``; a pod has one."""
        found = []
        for template in self.templates:
            (container,) = template["spec"]["containers"]
            found.append(container)
        return found

    @property
    def words(self) -> list[str]:
        """The command's words behind ``overlock batch``, as the first pod of a Job gets them."""
        if self.is_ray:
            program, *words = shlex.split(self.job["entrypoint"])
            assert program == "overlock"
        else:
            words = [each.replace(f"$({INDEX})", "0") for each in self.containers[0]["args"]]
        assert words[0] == "batch"
        return words[1:]

    @property
    def arguments(self) -> argparse.Namespace:
        """The command's options.

        Raises:
            ValueError: if the command would refuse them.
        """
        parser = argparse.ArgumentParser()
        fill_parser(parser)
        try:
            return parser.parse_args(self.words)
        except SystemExit as end:
            raise ValueError(f"overlock batch refuses {self.words}") from end

    def as_deployed(self) -> list[Manifests]:
        """Return each template as a Deployment's, beside the other objects."""
        return [
            Manifests(
                [
                    *self.objects,
                    {
                        "kind": "Deployment",
                        "metadata": {"name": "of-a-template", "namespace": "overlock"},
                        "spec": {
                            "template": {
                                **template,
                                "spec": {"initContainers": [], **template["spec"]},
                            }
                        },
                    },
                ]
            )
            for template in self.templates
        ]


def batch_manifests(variant: str) -> BatchManifests:
    """Return the objects of one of ``VARIANTS``, to keep or to change."""
    return BatchManifests(objects(*VARIANTS[variant]))
