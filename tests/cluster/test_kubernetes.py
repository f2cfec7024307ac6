"""The manifests for Kubernetes, checked against the schema of Flink's operator."""

import re
import subprocess
import zipfile

import pytest
import yaml
from helpers import ROOT

OPERATOR = "1.10.0"
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def faults(value, schema, path=""):
    """What the API server would refuse, or drop, of a resource: a list of messages.

    Knows the keywords that the operator's schema has.
    """
    if schema.get("x-kubernetes-int-or-string"):
        return [] if isinstance(value, (int, str)) else [f"{path}: neither int nor string"]
    if not isinstance(value, TYPES[schema["type"]]) or (
        isinstance(value, bool) and schema["type"] != "boolean"
    ):
        return [f"{path}: {value!r} is no {schema['type']}"]
    if value not in schema.get("enum", [value]):
        return [f"{path}: {value!r} is not one of {schema['enum']}"]
    found = []
    if isinstance(value, list):
        for n, one in enumerate(value):
            found += faults(one, schema["items"], f"{path}[{n}]")
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        for name, one in value.items():
            inner = known.get(name, schema.get("additionalProperties"))
            if inner is None:
                found.append(f"{path}.{name}: no such field")
            else:
                found += faults(one, inner, f"{path}.{name}")
    return found


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    """The schema of a FlinkDeployment, from the operator."""
    folder = tmp_path_factory.mktemp("operator")
    artifact = f"org.apache.flink:flink-kubernetes-operator-api:{OPERATOR}"
    subprocess.run(
        [
            "mvn",
            "-q",
            "-B",
            "dependency:copy",
            f"-Dartifact={artifact}",
            f"-DoutputDirectory={folder}",
        ],
        check=True,
        cwd=folder,
    )
    [jar] = folder.glob("*.jar")
    with zipfile.ZipFile(jar) as files:
        text = files.read("META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml")
    [version] = yaml.load(text, yaml.CSafeLoader)["spec"]["versions"]
    assert version["name"] == "v1beta1"
    return version["schema"]["openAPIV3Schema"]


def manifests():
    text = (ROOT / "launch" / "flink" / "kubernetes.yaml").read_text()
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


def test_the_operator_takes_the_deployment(schema):
    deployment = manifests()["FlinkDeployment"]
    assert deployment["apiVersion"] == "flink.apache.org/v1beta1"
    assert faults(deployment["spec"], schema["properties"]["spec"]) == []


def test_a_wrong_deployment_is_refused(schema):
    deployment = manifests()["FlinkDeployment"]["spec"]
    deployment["flinkConfiguration"]["taskmanager.numberOfTaskSlots"] = 4
    deployment["flinkVersion"] = "v1_12"
    pod = deployment["taskManager"]["podTemplate"]["spec"]
    pod["containers"][1]["commands"] = pod["containers"][1].pop("command")
    pod["containers"][1]["resources"]["limits"]["memory"] = ["8Gi"]
    found = "\n".join(faults(deployment, schema["properties"]["spec"]))
    for word in (
        "numberOfTaskSlots: 4 is no string",
        "v1_12",
        "commands: no such field",
        "neither",
    ):
        assert word in found


def test_the_parts_know_each_other():
    found = manifests()
    cluster = found["FlinkDeployment"]
    flink = cluster["spec"]["flinkVersion"].lstrip("v").replace("_", ".")
    assert cluster["spec"]["image"].startswith(f"flink:{flink}.")
    [server] = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert server["image"].startswith(f"apache/beam_flink{flink}_job_server:")
    rest = f"{cluster['metadata']['name']}-rest:8081"
    assert f"--flink-master={rest}" in server["args"]
    pool = cluster["spec"]["taskManager"]["podTemplate"]["spec"]["containers"][1]
    assert pool["command"][-1] == rest
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert f"--job-port={ports['jobs']}" in server["args"]
    assert f"--artifact-port={ports['artifacts']}" in server["args"]
    service = found["Service"]["spec"]
    assert {one["targetPort"]: one["port"] for one in service["ports"]} == ports
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"] == found["Deployment"]["spec"]["selector"]["matchLabels"] == labels


def test_its_settings_are_those_of_the_cluster_that_is_tested():
    """But for those of a machine's size."""
    script = (ROOT / "launch" / "flink.sh").read_text()
    tried = dict(re.findall(r"^((?:taskmanager|restart-strategy)\S+): (.+)$", script, re.MULTILINE))
    settings = manifests()["FlinkDeployment"]["spec"]["flinkConfiguration"]
    assert settings.keys() == tried.keys()
    for name in settings.keys() - {
        "taskmanager.numberOfTaskSlots",
        "restart-strategy.fixed-delay.attempts",
        "restart-strategy.fixed-delay.delay",
    }:
        assert settings[name] == tried[name]


def test_the_pool_is_in_the_image():
    containers = manifests()["FlinkDeployment"]["spec"]["taskManager"]["podTemplate"]["spec"][
        "containers"
    ]
    [pool] = [one for one in containers if one["name"] == "worker-pool"]
    image = (ROOT / "launch" / "Dockerfile").read_text()
    folder, _, name = pool["command"][1].rpartition("/")
    assert f"WORKDIR {folder}\n" in image
    assert f"launch/{name}" in image
    assert (ROOT / "launch" / name).is_file()
