"""The scripts with the real gcloud, without credentials, and a server in place of Google's."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler

import pytest
from google.cloud.dataflow_v1beta3 import LaunchFlexTemplateRequest
from helpers.http_server import Server
from helpers.launching import ROOT

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="there is no gcloud")

FLAGS = ["--input=gs://photos/a, b", "--model=/model", "--output=gs://bucket/labels", "--top_k=3"]
JOB = "2026-11-25_02_00_00-1"
SERVICES = ("dataflow", "artifactregistry", "serviceusage", "cloudscheduler", "monitoring")
_WHERE = "projects/my-project/locations/europe-west1"
OBJECT = {"bucket": "bucket", "generation": "1", "metageneration": "1", "storageClass": "STANDARD"}
NOT_FOUND = 404, {"error": {"code": 404, "message": "not found", "status": "NOT_FOUND"}}


class Google:
    """Notes what it is asked, and answers as if all of it had worked.

    Attributes:
      asked: what was asked: method, path without its query, and content.
      there: what has been made: the last words of paths.
    """

    def __init__(self):
        self.asked = []
        self.there = set()
        self.states = ["RUNNING", "DONE"]

    def bodies(self, method, end):
        """The contents of the requests whose path ends so."""
        return [body for how, path, body in self.asked if how == method and path.endswith(end)]

    def answer(self, method, path, content):
        """The status of the answer, and its content."""
        if path.startswith("/upload/"):  # a multipart message with the object as its second part
            boundary, _, _ = content.partition(b"\n")
            data = re.split(rb"\r?\n\r?\n", content.split(boundary.rstrip())[2], maxsplit=1)[1]
            data = data.removesuffix(b"\n").removesuffix(b"\r")
            md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
            return 200, OBJECT | {"name": "object", "size": str(len(data)), "md5Hash": md5}
        body = json.loads(content or b"{}")
        self.asked.append((method, path, body))
        name = path.rpartition("/")[2]
        if name == "metrics":
            value = {"name": {"origin": "user", "name": "images_decoded"}, "scalar": 80}
            return 200, {"metrics": [value]}
        if name == JOB:
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            return 200, {"id": JOB, "currentState": f"JOB_STATE_{state}"}
        if name == "flexTemplates:launch":
            return 200, {"job": {"id": JOB}}
        if name == "alertPolicies" and method == "GET":
            return 200, {}
        if "/storage/v1/" in path:
            return 200, OBJECT | {"name": "labels/summary.json", "size": "2", "items": []}
        if method == "GET" and name not in self.there:
            return NOT_FOUND
        if method == "DELETE":
            self.there.discard(name)
        else:
            self.there |= {"image-labeling"} if name == "repositories" else {"label-nightly"}
        return 200, {"name": f"{_WHERE}/operations/1", "done": True, "response": {}}

    def handler(self):
        google = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_request(self):
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer = google.answer(self.command, self.path.partition("?")[0], content)
                sent = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = do_PATCH = do_DELETE = handle_request

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def google():
    google = Google()
    with Server(("127.0.0.1", 0), google.handler()) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        google.url = f"http://127.0.0.1:{server.server_port}/"
        yield google
        server.shutdown()
        thread.join()


@pytest.fixture
def run(google, tmp_path):
    """Run a script; what it prints."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text('#!/bin/sh\necho "python $*"\n')
    python.chmod(0o755)
    given = {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "CLOUDSDK_CONFIG": str(tmp_path / "config"),
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{google.url}storage/v1/",
        "PROJECT": "my-project",
        "REGION": "europe-west1",
        "BUCKET": "bucket",
        "TAG": "v1",
        "SERVICE_ACCOUNT": "labeler@my-project.iam.gserviceaccount.com",
        "SECONDS_BETWEEN_LOOKS": "0",
    }
    for service in SERVICES:
        given[f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service.upper()}"] = google.url

    def run_script(script, *argv, **more):
        done = subprocess.run(
            [str(ROOT / "launch" / script), *argv],
            env=given | more,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run_script


def test_what_is_there_once_and_what_is_there_per_version(run, google):
    run("dataflow.sh", "setup")
    [enabled] = google.bodies("POST", "services:batchEnable")
    assert "dataflow.googleapis.com" in enabled["serviceIds"]
    [repository] = google.bodies("POST", "/repositories")
    assert repository["format"] == "DOCKER"
    assert "gs://bucket/templates/image-labeling-cpu.json" in run("dataflow.sh", "template")


def test_a_job_from_the_template(run, google):
    options = ("--flexrs-goal=COST_OPTIMIZED", "--worker-zone=z", "--launcher-machine-type=n2")
    gpu = {"GPU": "nvidia-l4", "NO_PUBLIC_IPS": "1", "SUBNETWORK": "regions/r/subnetworks/s"}
    said = run("dataflow.sh", "start", "--wait", *FLAGS, "--", *options, **gpu)
    [body] = google.bodies("POST", "flexTemplates:launch")
    LaunchFlexTemplateRequest.from_json(json.dumps(body))
    launch = body["launchParameter"]
    assert launch["jobName"] == "label-bucket-labels"
    assert launch["parameters"]["input"] == "gs://photos/a, b"
    environment = launch["environment"]
    assert environment["launcherMachineType"] == "n2"
    assert environment["flexrsGoal"] == "FLEXRS_COST_OPTIMIZED"
    assert environment["additionalExperiments"][1].endswith("count:1;install-nvidia-driver:5xx")
    assert "JOB_STATE_RUNNING 80 images_decoded \nJOB_STATE_DONE 80 images_decoded" in said
    assert "python -m pipeline report gs://bucket/labels\n" in said


def test_every_night(run, google):
    for _ in range(2):
        run("nightly/scheduler.sh", "apply", *FLAGS)
    for how in ("POST", "PATCH"):
        end = "/jobs" if how == "POST" else "/jobs/label-nightly"
        [job] = google.bodies(how, end)
        body = base64.b64decode(job["httpTarget"]["body"]).decode()
        LaunchFlexTemplateRequest.from_json(body)
        assert json.loads(body)["launchParameter"]["jobName"] == "label-bucket-labels"
        assert job["httpTarget"]["headers"]["Content-Type"] == "application/json"
        assert job["httpTarget"]["oauthToken"]["serviceAccountEmail"].startswith("labeler@")
    run("nightly/scheduler.sh", "delete")
    assert "label-nightly" not in google.there


def test_the_alerts(run, google):
    run("nightly/scheduler.sh", "alert", CHANNEL="projects/my-project/notificationChannels/1")
    failed, not_started = google.bodies("POST", "/alertPolicies")
    assert failed["notificationChannels"] == not_started["notificationChannels"]
    assert 'starts_with("label-")' in failed["conditions"][0]["conditionThreshold"]["filter"]
    assert "conditionMatchedLog" in not_started["conditions"][0]
