"""Prints the body of Dataflow's ``flexTemplates:launch``, which starts the flex template.

    launch_body.py JOB_NAME --name=value …

The other settings are in the environment, as ``scheduler.sh`` and ``settings.sh`` make them. This
needs only Python.
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
    experiments = ["no_use_multiple_sdk_containers"]
    if os.environ["ACCELERATOR"]:
        parameters["require_gpu"] = "true"
        experiments.append(os.environ["ACCELERATOR"])
    bucket = os.environ["BUCKET"]
    environment = {
        "machineType": os.environ["MACHINE"],
        "maxWorkers": int(os.environ["MAX_WORKERS"]),
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
    return {
        "launchParameter": {
            "jobName": job,
            "containerSpecGcsPath": os.environ["TEMPLATE"],
            "parameters": parameters | {"incremental": "true"},
            "environment": environment,
        }
    }


if __name__ == "__main__":
    print(json.dumps(body(sys.argv[1], sys.argv[2:])))
