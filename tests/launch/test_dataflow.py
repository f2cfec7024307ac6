"""Dataflow, as far as it goes without an account: the scripts' calls, and the job's description."""

import json
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from helpers.emulators import BUCKET, gcs_emulator
from helpers.launching import ROOT, Recorder
from helpers.runs import write_colors

from pipeline.__main__ import main
from pipeline.config.commands import LABEL, label_arguments
from pipeline.label import runs
from pipeline.label.build import build
from pipeline.label.validation import validate
from pipeline.models.probing import probe_classifier
from pipeline.runners import dataflow
from pipeline.runners.options import new_pipeline
from pipeline.runners.running import run_pipeline

sys.path.insert(0, str(ROOT / "launch"))
import flex_main
import flex_template

SCRIPT = "launch/dataflow.sh"
WHERE = {"PROJECT": "my-project", "REGION": "europe-west1", "BUCKET": BUCKET, "TAG": "v1"}
FLAGS = ["--input=gs://photos/a, b", "--model=/model", "--output=gs://labels/out", "--top_k=3"]
CPU_IMAGE = "europe-west1-docker.pkg.dev/my-project/image-labeling/cpu:v1"
GPU_IMAGE = CPU_IMAGE.replace("cpu:", "gpu:")
JOB = "2026-11-25_02_00_00-1234567890"
ACCELERATOR = "worker_accelerator=type:nvidia-tesla-t4;count:1;install-nvidia-driver:5xx"


# What the script asks python first: its version.
PYTHON = {"python -c": ["3.11\n"], "": [""]}


@pytest.fixture
def recorder(tmp_path):
    recorder = Recorder(tmp_path / "recorder", "gcloud", "python")
    recorder.answer(PYTHON)
    return recorder


# The script's calls


def test_label_starts_a_job_of_cpus(recorder):
    assert recorder.run(SCRIPT, "label", *FLAGS, JOB_NAME="job", **WHERE).returncode == 0
    assert recorder.calls[0][:2] == ["python", "-c"]
    assert recorder.calls[1:] == [
        [
            *("python", "-m", "pipeline", "label", *FLAGS),
            "--runner=DataflowRunner",
            "--project=my-project",
            "--region=europe-west1",
            "--job_name=job",
            "--temp_location=gs://bucket/tmp",
            "--staging_location=gs://bucket/staging",
            f"--sdk_container_image={CPU_IMAGE}",
            "--sdk_location=container",
            "--machine_type=n2-standard-4",
            "--disk_size_gb=50",
            "--experiments=no_use_multiple_sdk_containers",
            "--number_of_worker_harness_threads=4",
            "--autoscaling_algorithm=THROUGHPUT_BASED",
            "--max_num_workers=20",
            "--labels=app=image-labeling",
        ]
    ]


def test_label_starts_a_job_of_gpus(recorder):
    more = {"GPU": "nvidia-tesla-t4", "NO_PUBLIC_IPS": "1", "MAX_WORKERS": "3"}
    more |= {"SUBNETWORK": "regions/r/subnetworks/s", "SERVICE_ACCOUNT": "labeler@example.com"}
    assert recorder.run(SCRIPT, "label", *FLAGS, **WHERE, **more).returncode == 0
    call = recorder.calls[-1]
    assert call[-6:] == [
        "--max_num_workers=3",
        "--labels=app=image-labeling",
        f"--dataflow_service_options={ACCELERATOR}",
        "--no_use_public_ips",
        "--subnetwork=regions/r/subnetworks/s",
        "--service_account_email=labeler@example.com",
    ]
    assert {"--require_gpu", "--machine_type=n1-standard-8"} <= set(call)
    assert f"--sdk_container_image={GPU_IMAGE}" in call
    assert recorder.run(SCRIPT, "label", **WHERE, GPU="nvidia-l4").returncode == 0
    assert "--machine_type=g2-standard-8" in recorder.calls[-1]


@pytest.mark.parametrize(
    ("gpu", "machine"),
    [
        ("nvidia-tesla-v100", "n1-standard-8"),
        ("nvidia-tesla-a100", "a2-highgpu-1g"),
        ("nvidia-a100-80gb", "a2-ultragpu-1g"),
        ("nvidia-h100-80gb", "a3-highgpu-1g"),
    ],
)
def test_a_gpu_gets_a_machine_that_has_it(recorder, gpu, machine):
    assert recorder.run(SCRIPT, "label", **WHERE, GPU=gpu).returncode == 0
    assert f"--machine_type={machine}" in recorder.calls[-1]


def test_a_gpu_that_is_not_known(recorder):
    done = recorder.run(SCRIPT, "label", **WHERE, GPU="nvidia-b200")
    assert (done.returncode, recorder.calls) == (2, [])
    assert done.stderr == (
        "error: GPU=nvidia-b200: set MACHINE to a type of machine that has this GPU\n"
    )
    assert recorder.run(SCRIPT, "label", **WHERE, GPU="nvidia-b200", MACHINE="a4").returncode == 0


def test_another_python_than_the_workers(recorder):
    recorder.answer({"python -c": ["3.12\n"]})
    done = recorder.run(SCRIPT, "label", *FLAGS, **WHERE)
    assert (done.returncode, len(recorder.calls)) == (2, 1)
    assert "error: the first python on PATH is 3.12, the image's is 3.11: activate" in done.stderr


def test_the_services_and_the_repository(recorder):
    """Twice: the second time there is nothing left to make."""
    recorder.answer({"repositories describe": ["ERROR: not found", "image-labeling\n"], "": [""]})
    for _ in range(2):
        assert recorder.run(SCRIPT, "setup", **WHERE).returncode == 0
    where = ["--project=my-project", "--location=europe-west1"]
    verbs = [" ".join(call[1:4]) for call in recorder.calls]
    assert verbs == [
        *("services enable --project=my-project", "artifacts repositories describe"),
        *("artifacts repositories create", "services enable --project=my-project"),
        "artifacts repositories describe",
    ]
    assert recorder.calls[2][4:] == ["image-labeling", *where, "--repository-format=docker"]
    assert {"dataflow.googleapis.com", "artifactregistry.googleapis.com"} <= set(recorder.calls[0])


def test_the_images_tag_is_the_commit(recorder):
    where = {name: value for name, value in WHERE.items() if name != "TAG"}
    done = recorder.run(SCRIPT, "template", **where)
    if subprocess.run(["git", "-C", ROOT, "rev-parse"], capture_output=True).returncode != 0:
        assert "error: this is no clone of the repository: set TAG" in done.stderr
        return
    assert done.returncode == 0
    [image] = [word for word in recorder.calls[-1] if word.startswith("--image=")]
    assert re.fullmatch(r"--image=.*/image-labeling/cpu:[0-9a-f]{12}(-dirty)?", image)


def test_the_image(recorder):
    assert recorder.run(SCRIPT, "image", **WHERE, GPU="nvidia-l4", MODEL="model").returncode == 0
    [call] = recorder.calls
    assert call[:4] == ["gcloud", "builds", "submit", f"{ROOT}/launch/.."]
    assert call[4:-1] == [*("--project=my-project", "--region=europe-west1", "--config=/dev/stdin")]
    build = yaml.safe_load(call[-1])
    assert build["images"] == [GPU_IMAGE]
    assert build["steps"][0]["args"] == [
        *("build", "--file=launch/Dockerfile", f"--tag={GPU_IMAGE}"),
        *("--build-arg=KIND=gpu", f"--build-arg=IMAGE={GPU_IMAGE}"),
        *("--build-arg=MODEL=model", "."),
    ]


def test_the_template(recorder):
    assert recorder.run(SCRIPT, "template", **WHERE).returncode == 0
    assert recorder.calls == [
        [
            *("gcloud", "dataflow", "flex-template", "build"),
            "gs://bucket/templates/image-labeling-cpu.json",
            *("--project=my-project", f"--image={CPU_IMAGE}", "--sdk-language=PYTHON"),
            f"--metadata-file={ROOT}/launch/flex_template.json",
        ]
    ]


def test_start_from_the_template(recorder):
    recorder.answer({"flex-template run": ["job-7\n"]})
    done = recorder.run(SCRIPT, "start", *FLAGS, "--incremental", JOB_NAME="night", **WHERE)
    assert done.stdout == (
        "https://console.cloud.google.com/dataflow/jobs/europe-west1/job-7?project=my-project\n"
    )
    assert recorder.calls == [
        [
            *("gcloud", "dataflow", "flex-template", "run", "night"),
            *("--project=my-project", "--region=europe-west1"),
            "--template-file-gcs-location=gs://bucket/templates/image-labeling-cpu.json",
            "--parameters=^~^input=gs://photos/a, b~model=/model~output=gs://labels/out~top_k=3"
            "~incremental=true",
            *("--worker-machine-type=n2-standard-4", "--max-workers=20"),
            *("--temp-location=gs://bucket/tmp", "--staging-location=gs://bucket/staging"),
            "--additional-user-labels=app=image-labeling",
            "--additional-experiments=no_use_multiple_sdk_containers",
            "--format=value(job.id)",
        ]
    ]


def test_options_of_gcloud(recorder):
    recorder.answer({"flex-template run": ["job-7\n"]})
    options = ["--flexrs-goal=COST_OPTIMIZED", "--worker-zone=europe-west1-b"]
    assert recorder.run(SCRIPT, "start", *FLAGS, "--", *options, **WHERE).returncode == 0
    assert recorder.calls[-1][-2:] == options
    assert "flexrs" not in recorder.calls[-1][7]


def test_start_and_wait(recorder):
    recorder.answer(
        {
            "flex-template run": ["job-7\n"],
            "jobs describe": ["JOB_STATE_QUEUED\n", "JOB_STATE_RUNNING\n", "JOB_STATE_DONE\n"],
            "metrics list": ["", "80 images_decoded\n3 images_failed\n"],
            "storage ls": ["gs://labels/out/summary.json\n"],
            "pipeline report": ["123 found = 120 labeled + 3 failed\n"],
        }
    )
    quick = {"SECONDS_BETWEEN_LOOKS": "0"}
    done = recorder.run(SCRIPT, "start", "--wait", *FLAGS, **WHERE, **quick)
    assert done.returncode == 0
    assert done.stdout.endswith("\n123 found = 120 labeled + 3 failed\n")
    assert "gcloud dataflow jobs cancel job-7 --region=europe-west1" in done.stderr
    assert "JOB_STATE_RUNNING 80 images_decoded 3 images_failed" in done.stderr
    assert recorder.calls[-2:] == [
        [
            *("gcloud", "storage", "ls"),
            *("gs://labels/out/summary.json", "gs://labels/out/run=*/summary.json"),
        ],
        ["python", "-m", "pipeline", "report", "gs://labels/out"],
    ]
    recorder.answer({"flex-template run": ["job-8\n"], "jobs describe": ["JOB_STATE_FAILED\n"]})
    done = recorder.run(SCRIPT, "start", "--wait", *FLAGS, **WHERE, **quick)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "error: the job has not ended well: JOB_STATE_FAILED; its log says why\n"
    )


def test_the_last_lines_of_a_night_are_those_of_its_own_folder(recorder):
    nights = [f"gs://labels/out/run=2026-11-2{n}T02-00-00Z/summary.json\n" for n in (4, 5)]
    recorder.answer(
        {"jobs describe": ["JOB_STATE_DONE\n"], "storage ls": ["".join(reversed(nights))]}
    )
    argv = ("start", "--wait", *FLAGS, "--incremental")
    assert recorder.run(SCRIPT, *argv, **WHERE).returncode == 0
    assert recorder.calls[-1][-1] == "gs://labels/out/run=2026-11-25T02-00-00Z"


def test_jobs_with_one_output_have_one_name(recorder):
    """So that Dataflow refuses the second while the first is at work."""
    outputs = [["--output=gs://o"], ["--output", "gs://o/"], ["--output=gs://p"]]
    for output in outputs:
        assert recorder.run(SCRIPT, "label", "--top_k=1", *output, **WHERE).returncode == 0
    assert recorder.run(SCRIPT, "start", "--output=gs://o", **WHERE).returncode == 0
    *labels, start = [call for call in recorder.calls if call[1] != "-c"]
    names = [word for call in labels for word in call if word.startswith("--job_name=")]
    assert names[0] == names[1] == f"--job_name={start[4]}" != names[2]
    assert start[4] == "label-o"


def test_the_name_is_the_same_wherever_it_is_made():
    """In the script, in the package, and in the DAG, which has neither."""
    outputs = ["gs://b/out", "gs://B-1/My_Out//x.y/", "gs://b/é/日本 1", "gs://b/-", "s3://b/~a,b"]
    source = (ROOT / "launch" / "nightly" / "airflow_dag.py").read_text()
    [made] = re.findall(r"^def job_name.*?(?=^def )", source, re.M | re.S)
    dag = {"re": re}
    exec(made, dag)
    script = '. launch/settings.sh; for output; do job_name "--output=$output"; done'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *outputs], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = done.stdout.splitlines()
    assert names == [dataflow.job_name(output) for output in outputs]
    assert names == [dag["job_name"](output) for output in outputs]
    assert names[:3] == ["label-b-out", "label-b-1-my-out-x-y", "label-b-1"]
    assert all(re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name) for name in names)


@pytest.mark.parametrize(
    ("argv", "missing", "message"),
    [
        (["label"], "PROJECT", "PROJECT: is not set: the project that pays"),
        (["label"], "BUCKET", "BUCKET: is not set"),
        (["start", "photos"], None, "error: photos: start takes flags as --name=value"),
        (["start", "--input=a", "--input=b"], None, "error: --input is given twice; a template"),
        (["start", "--input=a~b"], None, "error: --input=a~b: has a tilde"),
        (["start", "--wait", "--config=c"], None, "error: --wait takes the last lines from the"),
        ([], None, "launch/dataflow.sh label FLAGS"),
        (["lable"], None, "launch/dataflow.sh label FLAGS"),
    ],
)
def test_mistakes(recorder, argv, missing, message):
    where = {name: value for name, value in WHERE.items() if name != missing}
    done = recorder.run(SCRIPT, *argv, **where)
    assert done.returncode == 2
    assert message in done.stderr
    assert recorder.calls == []


# The flex template


def test_the_templates_parameters_are_the_flags():
    written = json.loads((ROOT / "launch" / "flex_template.json").read_text())
    assert written == flex_template.metadata()
    names = [parameter["name"] for parameter in written["parameters"]]
    assert {"input", "model", "output", "config", "incremental", "output_table"} <= set(names)
    # None is asked for, as a file for --config may have it.
    assert all(parameter["isOptional"] for parameter in written["parameters"])


def test_parameters_become_arguments():
    given = ["--input=a b=c", "--incremental=true", "--gzip=false", "--xla=", "--truth=", "--x"]
    assert label_arguments(given) == ["--input=a b=c", "--incremental", "--x"]


def test_the_launcher_gives_the_workers_its_own_image(recorder):
    """And what makes them right otherwise is what the script gives to a job that it starts."""
    given = ["--input=a", "--incremental=true", "--runner=DataflowRunner", "--gzip="]
    argv = flex_main.arguments(given, CPU_IMAGE)
    assert argv[:4] == ["label", "--input=a", "--incremental", "--runner=DataflowRunner"]
    assert recorder.run(SCRIPT, "label", *FLAGS, **WHERE).returncode == 0
    assert set(argv[4:]) < set(recorder.calls[-1])


def test_what_only_the_launcher_knows_is_left_out(capsys):
    given = ["--input=a", "--goog_new=1", "--job_name=job", "--labels_file=b", "--labels={}"]
    argv = flex_main.arguments(given, CPU_IMAGE)
    assert argv[1:5] == ["--input=a", "--job_name=job", "--labels_file=b", "--labels={}"]
    assert capsys.readouterr().err == (
        "warning: --goog_new of the template's launcher is left out, as Beam does not know it\n"
    )


def test_the_image_has_what_the_lock_has():
    dockerfile = (ROOT / "launch" / "Dockerfile").read_text()
    lock = (ROOT / "requirements.txt").read_text()
    assert "ARG BEAM_VERSION=2.77.0\n" in dockerfile
    assert "apache-beam==2.77.0 ; python_full_version >= '3.11'" in lock.replace("[aws,gcp]", "")


# The job's description


@pytest.fixture(scope="module")
def bucket():
    with gcs_emulator() as store, store.reached_at(store.url):
        yield store


def put_colors(bucket, tmp_path):
    """Some images in the bucket; their URI."""
    photos = Path(write_colors(tmp_path / "p"))
    bucket.put({f"in/{path.name}": path.read_bytes() for path in photos.iterdir()})
    return "gs://bucket/in"


def description(tmp_path, bucket, recorder, color_model, *more, **environment):
    """What would be sent to Dataflow for the flags of the script, and the pipeline's proto."""
    flags = [f"--input={put_colors(bucket, tmp_path)}", f"--model={color_model}"]
    flags.append(f"--output=gs://bucket/{tmp_path.name}")
    done = recorder.run(SCRIPT, "label", *flags, *more, JOB_NAME="job", **WHERE, **environment)
    assert done.returncode == 0, done.stderr
    argv = [*recorder.calls[-1][4:], "--no_auth", "--template_location=gs://bucket/job.json"]
    config = LABEL.parse(argv)
    pipeline = new_pipeline(config.beam_args)
    checked = validate(config)
    started = datetime(2026, 11, 24, tzinfo=timezone.utc)
    plan = runs.plan(config, checked, probe_classifier(config.model), started)
    build(pipeline, plan.run, started)
    assert run_pipeline(pipeline) is False
    FileSystems.set_options(PipelineOptions())
    with FileSystems.open("gs://bucket/job.json") as file:
        job = json.loads(file.read())
    return job, *of_description(job)


def of_description(job):
    """The options in a job's description, and the proto of the pipeline beside it."""
    options = job["environment"]["sdkPipelineOptions"]["options"]
    with FileSystems.open(options["pipelineUrl"]) as file:
        proto = beam_runner_api_pb2.Pipeline.FromString(file.read())
    return options, proto


def staged(pool):
    """The packages that a worker installs."""
    names = [package["name"] for package in pool["packages"]]
    return [name for name in names if name.endswith((".tar.gz", ".whl"))]


def test_the_description_of_a_job_of_cpus(tmp_path, recorder, color_model, bucket):
    job, options, _ = description(tmp_path, bucket, recorder, color_model)
    [pool] = job["environment"]["workerPools"]
    assert job["name"] == "job"
    assert job["labels"] == {"app": "image-labeling"}
    assert pool["machineType"] == "n2-standard-4"
    assert pool["diskSizeGb"] == 50
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 20
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [CPU_IMAGE]
    assert staged(pool) == []  # the image has it all
    assert "no_use_multiple_sdk_containers" in job["environment"]["experiments"]
    assert options["number_of_worker_harness_threads"] == 4
    assert not job["environment"].get("serviceOptions")


def test_the_description_of_a_job_of_gpus(tmp_path, recorder, color_model, bucket):
    more = {"GPU": "nvidia-tesla-t4", "NO_PUBLIC_IPS": "1"}
    job, _, proto = description(tmp_path, bucket, recorder, color_model, **more)
    [pool] = job["environment"]["workerPools"]
    assert pool["machineType"] == "n1-standard-8"
    assert pool["ipConfiguration"] == "WORKER_IP_PRIVATE"
    assert job["environment"]["serviceOptions"] == [ACCELERATOR]
    # One image for all steps: a worker has one process, and so one model.
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [GPU_IMAGE]
    environments = {
        transform.environment_id
        for transform in proto.components.transforms.values()
        if transform.environment_id
    }
    assert len(environments) == 1


def test_the_launcher_describes_a_job(tmp_path, color_model, bucket, capsys):
    """As in the image: what is left is the beginning of a run, and a lock that its job has."""
    photos = put_colors(bucket, tmp_path)
    parameters = [f"--input={photos}", f"--model={color_model}", "--output=gs://bucket/night"]
    of_launcher = [
        *("--runner=DataflowRunner", "--project=my-project", "--region=europe-west1"),
        *("--job_name=label-night", "--temp_location=gs://bucket/tmp", "--max_num_workers=20"),
        *("--staging_location=gs://bucket/staging", "--machine_type=n2-standard-4"),
        *("--experiments=no_use_multiple_sdk_containers", "--labels=app=image-labeling"),
        f"--template_location=gs://bucket/staging/template_launches/{JOB}/job_object",
        "--no_auth",
    ]
    given = [*parameters, "--incremental=true", "--gzip=", *of_launcher]
    assert main(flex_main.arguments(given, CPU_IMAGE)) == 0, capsys.readouterr().err
    with FileSystems.open(f"gs://bucket/staging/template_launches/{JOB}/job_object") as file:
        job = json.loads(file.read())
    [pool] = job["environment"]["workerPools"]
    assert job["name"] == "label-night"
    assert job["labels"] == {"app": "image-labeling"}
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [CPU_IMAGE]
    assert (pool["machineType"], pool["diskSizeGb"]) == ("n2-standard-4", 50)
    assert "no_use_multiple_sdk_containers" in job["environment"]["experiments"]
    _, proto = of_description(job)
    names = {transform.unique_name for transform in proto.components.transforms.values()}
    assert "Judge" in names  # as nobody waits for it
    [left] = FileSystems.match(["gs://bucket/night/**"])
    names = {file.path.rpartition("/")[2]: file.path for file in left.metadata_list}
    assert sorted(names) == [".claim", "run.json", "run.yaml"]
    assert FileSystems.match(["gs://bucket/tmp/models/sha256-*/saved_model.pb"])[0].metadata_list
    for name in (".claim", "run.json"):
        with FileSystems.open(names[name]) as file:
            assert json.loads(file.read())["job"]["id"] == JOB


def test_a_package_is_staged_where_that_is_asked_for(tmp_path, recorder, color_model, bucket):
    flags = (f"--setup_file={ROOT}/setup.py",)
    job, _, _ = description(tmp_path, bucket, recorder, color_model, *flags)
    [pool] = job["environment"]["workerPools"]
    assert staged(pool) == ["workflow.tar.gz"]


def test_no_pixels_cross_a_shuffle(tmp_path, recorder, color_model, bucket):
    """Fusion is broken before the decode, by names, and from there to the rows no more."""
    *_, proto = description(tmp_path, bucket, recorder, color_model)
    transforms = proto.components.transforms
    leaves = {
        name: transform for name, transform in transforms.items() if not transform.subtransforms
    }
    made_by = {
        output: transform for transform in leaves.values() for output in transform.outputs.values()
    }
    takers = {}
    for transform in leaves.values():
        for taken in transform.inputs.values():
            takers.setdefault(taken, []).append(transform)
    shuffles = ("beam:transform:group_by_key:v1", "beam:transform:reshuffle:v1")
    [decode] = [
        transform
        for transform in leaves.values()
        if "ReadAndDecode/ParDo(_ReadAndDecode)" in transform.unique_name
    ]
    breaks, behind = [], list(decode.inputs.values())
    while behind:
        maker = made_by[behind.pop()]
        if maker.spec.urn in shuffles:
            breaks.append(maker.unique_name)
        else:
            behind.extend(maker.inputs.values())
    # By the images' names, in the join with what has been done before.
    assert {name.partition("/")[0] for name in breaks} == {"SetAsideDone"}
    seen, ahead = set(), [decode.outputs["None"]]
    while ahead:
        pixels = ahead.pop()
        for transform in takers.get(pixels, []):
            assert transform.spec.urn not in shuffles, transform.unique_name
            seen.add(transform.unique_name)
            if "Classify/Label/" not in transform.unique_name:  # whose output is rows
                ahead.extend(transform.outputs.values())
    assert any("RunInference" in name for name in seen)
    assert any("Classify/Label/" in name for name in seen)
