"""The files that start a grid elsewhere, checked as far as that goes without a cloud: schemas, references, security."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHERS = ["aws.yaml", "gcp.yaml"]
KUBERAY = ["raycluster.yaml", "rayjob.yaml"]

# the fields of KubeRay's custom resources, from its API reference for ray.io/v1 (KubeRay 1.6); those we may use
CLUSTER_FIELDS = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec",
    "headServiceAnnotations", "managedBy", "rayVersion", "suspend", "upgradeStrategy", "workerGroupSpecs",
}  # fmt: skip
HEAD_FIELDS = {"enableIngress", "headService", "rayStartParams", "serviceType", "template"}
WORKER_FIELDS = {
    "groupName", "idleTimeoutSeconds", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams", "replicas",
    "scaleStrategy", "suspend", "template",
}  # fmt: skip
JOB_FIELDS = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint", "entrypointNumCpus",
    "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata", "rayClusterSpec", "runtimeEnvYAML",
    "shutdownAfterJobFinishes", "submissionMode", "submitterConfig", "submitterPodTemplate", "suspend",
    "ttlSecondsAfterFinished",
}  # fmt: skip


def content(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return found


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_itself_accepts_the_launcher_file(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    pytest.importorskip("jsonschema")
    whole = prepare_config(content(name))
    validate_config(whole)
    broken = {**whole, "max_worker": 3}
    with pytest.raises(Exception, match="'max_worker' was unexpected"):
        validate_config(broken)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_nodes_that_the_launcher_starts_ask_for_the_token_and_keep_the_dashboard_to_themselves(name: str) -> None:
    launcher = content(name)
    starts = [
        command
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in launcher[key]
        if "ray start" in command
    ]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "IpPermissions" not in launcher["provider"].get("security_group", {})
    assert "chmod 600 ~/.ray/auth_token" in launcher["setup_commands"]
    workers = launcher["available_node_types"]["gpu"]
    assert workers["min_workers"] == workers["max_workers"] == launcher["max_workers"]


def rayclusters() -> list[dict[str, Any]]:
    return [content("kuberay/raycluster.yaml")["spec"], content("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"]]


def test_the_kuberay_manifests_have_only_fields_that_kuberay_knows() -> None:
    for name, kind in zip(KUBERAY, ("RayCluster", "RayJob"), strict=True):
        manifest = content(f"kuberay/{name}")
        assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", kind)
        assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
    job = content("kuberay/rayjob.yaml")["spec"]
    assert set(job) <= JOB_FIELDS and job["submissionMode"] == "K8sJobMode"
    for cluster in rayclusters():
        assert set(cluster) <= CLUSTER_FIELDS and set(cluster["headGroupSpec"]) <= HEAD_FIELDS
        for workers in cluster["workerGroupSpecs"]:
            assert set(workers) <= WORKER_FIELDS
            assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
        parameters = [group["rayStartParams"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
        assert all(isinstance(value, str) for group in parameters for value in group.values())
        assert cluster["authOptions"] == {"mode": "token"}


def test_the_kuberay_manifests_run_the_ray_that_the_image_installs() -> None:
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert {cluster["rayVersion"] for cluster in rayclusters()} == {pinned[1]}


def test_kubernetes_own_schema_accepts_the_pods_and_the_network_policy() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate (110 MB of schemas)")
    documents = [content("kuberay/networkpolicy.yaml")]
    for cluster in rayclusters():
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **group["template"]}
            documents.append(pod)
    for document in documents:
        validate.validate(document, validate.latest_version(), strict=True)
    broken = {**documents[-1], "spec": {**documents[-1]["spec"], "tolerations": [{"keys": "x"}]}}
    with pytest.raises(validate.ValidationError):
        validate.validate(broken, validate.latest_version(), strict=True)


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Containerfile and what follows each."""
    lines = [line for line in (CLUSTER / "Containerfile").read_text().splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in whole.splitlines() if line)]


def test_the_image_is_made_of_files_that_are_here_and_does_not_run_as_root() -> None:
    found = instructions()
    assert {name for name, _ in found} <= {"FROM", "RUN", "COPY", "WORKDIR", "USER", "ENV"}
    assert found[0][0] == "FROM"
    copied = [word for name, rest in found if name == "COPY" for word in shlex.split(rest)[:-1] if word[0] != "-"]
    assert copied and all((ROOT / word).exists() for word in copied)
    assert [rest for name, rest in found if name == "USER"] == ["1000"]
    assert "RAY_AUTH_MODE=token" in dict(found)["ENV"]
    for command in (rest for name, rest in found if name == "RUN"):
        assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any("'.[cluster]'" in rest for _, rest in found) and "cluster" in extras


def test_the_slurm_script_is_bash_and_starts_ray_with_a_token() -> None:
    script = CLUSTER / "slurm.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert "RAY_AUTH_MODE=token" in script.read_text() and "--include-dashboard=false" in script.read_text()


def test_every_file_that_the_readme_names_is_there() -> None:
    text = (CLUSTER / "README.md").read_text()
    named = set(re.findall(r"(?:tests/\w+|cluster|cluster/kuberay|experiments)/\w+\.(?:yaml|sh|py)", text))
    assert named and all((ROOT / name).exists() for name in named), named
