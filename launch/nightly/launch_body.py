"""Prints the body of Dataflow's ``flexTemplates:launch``, which starts the flex template.

    launch_body.py JOB_NAME --name=value …

The other settings are in the environment, as ``scheduler.sh`` says. This needs only Python.
"""

import json
import os
import sys


def body(job: str, flags: list[str]) -> dict:
    """Make the body, with ``--incremental`` added to the flags.

    Raises:
      SystemExit: a flag is not of the form ``--name=value`` or ``--name``, or is given twice.
    """
    parameters = {}
    for flag in flags:
        name, has_value, value = flag.removeprefix("--").partition("=")
        if not flag.startswith("--") or not name:
            raise SystemExit(f"error: {flag}: flags are given as --name=value")
        if name in parameters:
            raise SystemExit(
                f"error: --{name} is given twice; a template takes one value: put several inputs "
                "into a list, or into a file for --config"
            )
        parameters[name] = value if has_value else "true"
    gpu = os.environ.get("GPU", "")
    experiments = ["no_use_multiple_sdk_containers"]
    if gpu:
        parameters["require_gpu"] = "true"
        experiments.append(f"worker_accelerator=type:{gpu};count:1;install-nvidia-driver")
    bucket = os.environ["BUCKET"]
    machines = {"": "n2-standard-4", "nvidia-l4": "g2-standard-8"}
    environment = {
        "machineType": os.environ.get("MACHINE") or machines.get(gpu, "n1-standard-8"),
        "maxWorkers": int(os.environ.get("MAX_WORKERS") or 20),
        "tempLocation": f"gs://{bucket}/tmp",
        "stagingLocation": f"gs://{bucket}/staging",
        "serviceAccountEmail": os.environ["SERVICE_ACCOUNT"],
        "additionalExperiments": experiments,
        "additionalUserLabels": {"app": "image-labeling"},
    }
    if os.environ.get("NO_PUBLIC_IPS"):
        environment["ipConfiguration"] = "WORKER_IP_PRIVATE"
    if os.environ.get("SUBNETWORK"):
        environment["subnetwork"] = os.environ["SUBNETWORK"]
    kind = "gpu" if gpu else "cpu"
    return {
        "launchParameter": {
            "jobName": job,
            "containerSpecGcsPath": f"gs://{bucket}/templates/image-labeling-{kind}.json",
            "parameters": parameters | {"incremental": "true"},
            "environment": environment,
        }
    }


if __name__ == "__main__":
    print(json.dumps(body(sys.argv[1], sys.argv[2:])))
