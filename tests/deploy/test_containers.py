"""The files for containers, as their own tools read them: hadolint, the schemas of Kubernetes, and what refers to what."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.documents import at, documents, items, mapping, read, text
from tests.peers.process import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
MANIFESTS = sorted(
    path
    for path in KUBERNETES.rglob("*.yaml")
    if path.name != "kustomization.yaml" and path.parent.name != "autoscaling"  # its kind is KEDA's, not Kubernetes's
)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, DEPLOY / "Dockerfile"], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_manifest_fits_the_schema_of_kubernetes(path: Path) -> None:
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    told = done.stdout + done.stderr
    assert (done.returncode, "ERROR" in told, "passed" in told) == (0, False, True), told


def test_every_kustomization_names_files_that_are_there() -> None:
    for path in KUBERNETES.rglob("kustomization.yaml"):
        for name in items(read(path), "resources"):
            found = path.parent / str(name)
            assert found.exists(), f"{path} names {name}"
            assert found.is_file() or (found / "kustomization.yaml").exists()


def test_selectors_meet_the_labels_and_probes_the_ports_of_their_pods() -> None:
    kinds = [document for path in MANIFESTS for document in documents(path.read_text(encoding="utf-8"))]
    pods = [at(one, "spec.template") for one in kinds if one["kind"] in {"Deployment", "StatefulSet"}]
    assert len(pods) == 3
    for one in kinds:
        if one["kind"] == "Service":
            wanted = mapping(one, "spec.selector").items()
            [pod] = [pod for pod in pods if wanted <= mapping(pod, "metadata.labels").items()]
            named = {text(port, "name") for port in items(pod, "spec.containers.0.ports")}
            assert {text(port, "targetPort") for port in items(one, "spec.ports")} <= named


def test_services_of_the_compose_file_run_our_image_and_wait_for_redis() -> None:
    services = mapping(read(DEPLOY / "compose.yaml"), "services")
    assert set(services) == {"redis", "serve", "worker"}
    for name in ("serve", "worker"):
        assert text(services, f"{name}.build.dockerfile") == "deploy/Dockerfile"
        assert text(services, f"{name}.depends_on.redis.condition") == "service_healthy"
        assert text(services, f"{name}.environment.RESYNCCTL_REDIS_URL") == "redis://redis:6379/0"
    assert items(services, "worker.command") == ["worker"]
    assert "yes" in items(services, "redis.command")
