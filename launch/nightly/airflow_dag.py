"""Labels what is new in a bucket every night at two, on Dataflow, from the flex template.

The Airflow variable ``image_labeling`` has the settings, as JSON:

    {"project": "my-project", "region": "europe-west1", "bucket": "my-bucket",
     "input": "gs://my-bucket/photos", "model": "gs://my-bucket/models/mobilenet_v2",
     "output": "gs://my-bucket/labels", "service_account": "labeler@example.com"}
"""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.sdk import DAG

SETTINGS = "var.json.image_labeling"


def setting(name: str) -> str:
    """Return a template for a setting, which is looked up when the task runs."""
    return f"{{{{ {SETTINGS}.{name} }}}}"


def job_name(output: str) -> str:
    """Name the job as launch/settings.sh does, so that Dataflow refuses a second on an output."""
    path = output.partition("://")[2] or output
    return "label-" + re.sub("[^A-Za-z0-9]+", "-", path).strip("-").lower()


def report_failure(context: dict[str, Any]) -> None:
    """Log which night failed, and where its log is; call your pager here."""
    task = context["task_instance"]
    logging.getLogger(__name__).error(
        "labeling failed in the night of %s: %s", context.get("logical_date"), task.log_url
    )


with DAG(
    dag_id="image_labeling",
    description="Labels the images that are new since last night",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    # The next night makes up for a missed one: it labels all that is new.
    catchup=False,
    # No run begins while another one is running.
    max_active_runs=1,
    on_failure_callback=report_failure,
    user_defined_macros={"job_name": job_name},
    tags=["labeling"],
) as dag:
    DataflowStartFlexTemplateOperator(
        task_id="label",
        project_id=setting("project"),
        location=setting("region"),
        # Dataflow refuses a second job of the same name while the first one runs. So the name is
        # the same every night, without a suffix.
        append_job_name=False,
        # What was labeled before the failure is kept, and the next attempt resumes it.
        retries=2,
        retry_delay=timedelta(minutes=10),
        # The task waits in Airflow's triggerer, and takes no worker's slot all night.
        deferrable=True,
        body={
            "launchParameter": {
                "jobName": f"{{{{ job_name({SETTINGS}.output) }}}}",
                "containerSpecGcsPath": (
                    f"gs://{setting('bucket')}/templates/image-labeling-cpu.json"
                ),
                "parameters": {
                    "input": setting("input"),
                    "model": setting("model"),
                    "output": setting("output"),
                    "incremental": "true",
                },
                "environment": {
                    "machineType": "n2-standard-4",
                    "maxWorkers": 20,
                    "tempLocation": f"gs://{setting('bucket')}/tmp",
                    "stagingLocation": f"gs://{setting('bucket')}/staging",
                    "serviceAccountEmail": setting("service_account"),
                    # One process and one model per worker.
                    "additionalExperiments": ["no_use_multiple_sdk_containers"],
                    "additionalUserLabels": {"app": "image-labeling"},
                },
            }
        },
    )
