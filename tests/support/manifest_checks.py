"""All checks of what the manifests must keep, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import support.manifest_cluster_checks as cluster
import support.manifest_pod_checks as pods
import support.manifest_resource_checks as resources
from support.manifests import Manifests

Check = Callable[[Manifests], Iterator[str]]

CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        *(pods.settings, pods.probes, pods.commands, pods.weights, pods.grace, pods.security),
        *(pods.volumes, resources.memory, resources.threads, resources.devices, resources.images),
        *(
            cluster.metric_names,
            cluster.ports,
            cluster.routes,
            cluster.labels,
            cluster.spread,
            cluster.rollout,
        ),
        *(cluster.scaling, cluster.fallback, cluster.namespaces, cluster.network),
    )
}
