"""The nightly launchers, twice each: by stand-ins for the cloud, really on this machine."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser

import pytest
import yaml
from google.cloud.dataflow_v1beta3 import LaunchFlexTemplateRequest
from helpers.launching import ROOT, Recorder
from helpers.models import image_file
from helpers.runs import summary

NIGHTLY = ROOT / "launch" / "nightly"
SCRIPT = "launch/nightly/scheduler.sh"
AIRFLOW = ROOT / ".venv-airflow" / "bin" / "python"
WHERE = {
    "PROJECT": "my-project",
    "REGION": "europe-west1",
    "BUCKET": "bucket",
    "SERVICE_ACCOUNT": "labeler@example.com",
}
FLAGS = ["--input=gs://photos/a, b", "--model=gs://bucket/model", "--output=gs://labels"]


# Cloud Scheduler


@pytest.fixture
def recorder(tmp_path):
    return Recorder(tmp_path / "recorder", "gcloud")


def test_the_schedule_is_created_and_then_changed(recorder):
    recorder.answer({"jobs describe": ["ERROR: not found", "label-nightly\n"]})
    for _ in range(2):
        done = recorder.run(SCRIPT, "apply", *FLAGS, **WHERE, SCHEDULER_ACCOUNT="s@example.com")
        assert done.returncode == 0, done.stderr
    describe, create, again, update = recorder.calls
    assert describe == again
    assert describe[:5] == ["gcloud", "scheduler", "jobs", "describe", "label-nightly"]
    assert create[:6] == ["gcloud", "scheduler", "jobs", "create", "http", "label-nightly"]
    assert update[:6] == ["gcloud", "scheduler", "jobs", "update", "http", "label-nightly"]
    assert "--headers=Content-Type=application/json" in create
    assert "--update-headers=Content-Type=application/json" in update
    assert [word for word in create if "headers" not in word][6:] == [
        *("--project=my-project", "--location=europe-west1"),
        *("--schedule=0 2 * * *", "--time-zone=Etc/UTC"),
        "--uri=https://dataflow.googleapis.com/v1b3/projects/my-project/locations/europe-west1"
        "/flexTemplates:launch",
        "--http-method=POST",
        f"--message-body={json.dumps(body())}",
        *("--oauth-service-account-email=s@example.com", "--max-retry-attempts=3"),
    ]


def body():
    return {
        "launchParameter": {
            "jobName": "label-labels",
            "containerSpecGcsPath": "gs://bucket/templates/image-labeling-cpu.json",
            "parameters": {
                "input": "gs://photos/a, b",
                "model": "gs://bucket/model",
                "output": "gs://labels",
                "incremental": "true",
            },
            "environment": {
                "machineType": "n2-standard-4",
                "maxWorkers": 20,
                "tempLocation": "gs://bucket/tmp",
                "stagingLocation": "gs://bucket/staging",
                "serviceAccountEmail": "labeler@example.com",
                "additionalExperiments": ["no_use_multiple_sdk_containers"],
                "additionalUserLabels": {"app": "image-labeling"},
            },
        }
    }


def test_a_schedule_for_gpus(recorder):
    more = {"GPU": "nvidia-l4", "NO_PUBLIC_IPS": "1", "SUBNETWORK": "regions/r/subnetworks/s"}
    assert recorder.run(SCRIPT, "apply", *FLAGS, "--gzip", **WHERE, **more).returncode == 0
    [message] = [word for word in recorder.calls[-1] if word.startswith("--message-body=")]
    sent = message.partition("=")[2]
    LaunchFlexTemplateRequest.from_json(sent)
    launch = json.loads(sent)["launchParameter"]
    assert launch["containerSpecGcsPath"].endswith("image-labeling-gpu.json")
    assert launch["parameters"]["require_gpu"] == launch["parameters"]["gzip"] == "true"
    environment = launch["environment"]
    assert environment["machineType"] == "g2-standard-8"
    assert environment["ipConfiguration"] == "WORKER_IP_PRIVATE"
    assert environment["subnetwork"] == "regions/r/subnetworks/s"
    assert environment["additionalExperiments"][1] == (
        "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver:5xx"
    )


def test_what_is_sent_is_what_dataflow_and_the_template_know():
    """By Dataflow's own client, which refuses a field that the service has not."""
    request = LaunchFlexTemplateRequest.from_json(json.dumps(body()))
    assert request.launch_parameter.environment.max_workers == 20
    assert request.launch_parameter.job_name == "label-labels"
    template = json.loads((ROOT / "launch" / "flex_template.json").read_text())
    known = {parameter["name"] for parameter in template["parameters"]}
    assert body()["launchParameter"]["parameters"].keys() <= known


def test_a_night_now_and_none_any_more(recorder):
    recorder.answer({"jobs describe": ["label-nightly\n", "ERROR: not found"]})
    for command in ("run", "delete", "delete"):
        assert recorder.run(SCRIPT, command, **WHERE).returncode == 0
    job = ["label-nightly", "--project=my-project", "--location=europe-west1"]
    describe = ["gcloud", "scheduler", "jobs", "describe", *job, "--format=value(name)"]
    assert recorder.calls == [
        ["gcloud", "scheduler", "jobs", "run", *job],
        describe,
        ["gcloud", "scheduler", "jobs", "delete", *job, "--quiet"],
        describe,
    ]


def test_the_alerts_are_created_and_then_changed(recorder):
    recorder.answer({"policies list": ["", "", "projects/my-project/alertPolicies/1\n"]})
    channel = "projects/my-project/notificationChannels/1"
    for _ in range(2):
        assert recorder.run(SCRIPT, "alert", **WHERE, CHANNEL=channel).returncode == 0
    created, changed = recorder.calls[:4], recorder.calls[4:]
    for n, name in enumerate(("alert_failed.json", "alert_not_started.json")):
        policy = json.loads((NIGHTLY / name).read_text())
        policies = ["gcloud", "alpha", "monitoring", "policies"]
        listing = [
            *(*policies, "list", "--project=my-project"),
            f'--filter=displayName="{policy["displayName"]}"',
            "--format=value(name)",
        ]
        file = f"--policy-from-file={NIGHTLY}/{name}"
        create = [*policies, "create", "--project=my-project"]
        assert created[2 * n] == changed[2 * n] == listing
        assert created[2 * n + 1] == [*create, f"--notification-channels={channel}", file]
        assert changed[2 * n + 1] == [
            *(*policies, "update", "projects/my-project/alertPolicies/1", "--project=my-project"),
            *(f"--set-notification-channels={channel}", file),
        ]
        [condition] = policy["conditions"]
        kind = condition.get("conditionThreshold") or condition["conditionMatchedLog"]
        assert ('"label-nightly"', 'starts_with("label-")')[n == 0] in kind["filter"]


@pytest.mark.parametrize(
    ("argv", "missing", "message"),
    [
        (["apply"], "SERVICE_ACCOUNT", "SERVICE_ACCOUNT: is not set"),
        (["apply", "photos"], None, "error: photos: flags are given as --name=value"),
        (["apply", "--input=a", "--input=b"], None, "error: --input is given twice"),
        (["alert"], None, "CHANNEL: is not set"),
        ([], None, "scheduler.sh apply FLAGS"),
    ],
)
def test_mistakes(recorder, argv, missing, message):
    where = {name: value for name, value in WHERE.items() if name != missing}
    done = recorder.run(SCRIPT, *argv, **where)
    assert done.returncode != 0
    assert message in done.stderr
    assert recorder.calls == []


# Airflow


@pytest.mark.skipif(not AIRFLOW.exists(), reason="there is no Airflow: make airflow")
def test_airflow_takes_the_dag(tmp_path):
    done = subprocess.run(
        [
            AIRFLOW,
            ROOT / "tests" / "launch" / "airflow" / "check_dag.py",
            NIGHTLY / "airflow_dag.py",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env={"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
    )
    assert "\nDAG" in done.stdout, done.stdout + done.stderr
    dag = json.loads(done.stdout.rpartition("\nDAG")[2])
    assert dag["errors"] == {}
    assert (dag["dag_id"], dag["schedule"]) == ("image_labeling", "0 2 * * *")
    assert (dag["catchup"], dag["max_active_runs"]) == (False, 1)
    assert dag["has_failure_callback"]
    assert dag["operator"] == "DataflowStartFlexTemplateOperator"
    assert dag["append_job_name"] is False
    assert dag["deferrable"] is True
    assert "body" in dag["templated"]
    launch = dag["body"]["launchParameter"]
    expected = body()["launchParameter"]
    assert launch.keys() == expected.keys()
    assert launch["jobName"] == "{{ job_name(var.json.image_labeling.output) }}"
    assert launch["parameters"].keys() == expected["parameters"].keys()
    assert launch["environment"].keys() == expected["environment"].keys()
    bucket = "{{ var.json.image_labeling.bucket }}"
    for name in ("additionalExperiments", "machineType", "tempLocation"):
        said = json.loads(json.dumps(launch["environment"][name]).replace(bucket, "bucket"))
        assert said == expected["environment"][name]


# One machine


def unit(name):
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(NIGHTLY / name)
    return parser


def test_two_nights_on_one_machine(tmp_path, color_model):
    (tmp_path / "photos").mkdir()
    flags = {"input": "photos", "model": color_model, "output": "labels"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(flags))
    command = shlex.split(unit("image-labeling.service")["Service"]["ExecStart"])
    assert command[0] == "/opt/image-labeling/.venv/bin/python"
    command[0] = sys.executable
    command[command.index("/etc/image-labeling/run.yaml")] = str(tmp_path / "run.yaml")
    for night, color in ((1, "red"), (2, "blue")):
        for n in range(night):
            (tmp_path / "photos" / f"{color}-{n}.png").write_bytes(image_file(color))
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    first, second = sorted((tmp_path / "labels").iterdir())
    assert (summary(first)["labeled"], summary(first)["skipped"]) == (1, 0)
    assert (summary(second)["labeled"], summary(second)["skipped"]) == (2, 1)


def test_a_night_that_fails_is_told(tmp_path):
    service = unit("image-labeling.service")
    failed = service["Unit"]["OnFailure"]
    assert "ExecStart" in unit(failed)["Service"]
    assert service["Service"]["Type"] == "oneshot"  # a second start waits for the first
    assert unit("image-labeling.timer")["Timer"]["OnCalendar"] == "*-*-* 02:00:00"
    command = shlex.split(service["Service"]["ExecStart"])
    command[0] = sys.executable
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "error: --config /etc/image-labeling/run.yaml: cannot be read: " in done.stderr


def test_cron_mails_only_of_nights_that_fail(tmp_path, color_model):
    """That is, the line prints nothing else; the runbook has it."""
    [line] = re.findall(r"^ *0 2 \* \* \*  (.*)$", (NIGHTLY.parent / "README.md").read_text(), re.M)
    flags = {"input": str(tmp_path / "photos"), "model": color_model, "output": "labels"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(flags))
    for text, path in (
        ("/opt/image-labeling", tmp_path),
        (".venv/bin/python", sys.executable),
        ("/etc/image-labeling", tmp_path),
    ):
        assert text in line
        line = line.replace(text, str(path))
    home = os.environ | {"HOME": str(tmp_path)}

    def night():
        return subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, env=home, capture_output=True, text=True
        )

    assert "error: --input " in night().stdout
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "red.png").write_bytes(image_file("red"))
    done = night()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "1 found = 1 labeled" in (tmp_path / "labeling.log").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_understands_the_units():
    units = sorted(NIGHTLY.glob("image-labeling*"))
    assert len(units) == 3
    done = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60
    )
    said = [
        line
        for line in done.stderr.splitlines()
        if not re.search("/opt/image-labeling/.venv/bin/python is not executable", line)
    ]
    assert said == []
