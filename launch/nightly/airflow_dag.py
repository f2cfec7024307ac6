"""Every night at two: labels what is new in a bucket, on Dataflow, from the flex template.

Airflow's variables, as JSON in ``image_labeling``, say where and what:

    {"project": "my-project", "region": "europe-west1", "bucket": "my-bucket",
     "input": "gs://my-bucket/photos", "model": "gs://my-bucket/models/mobilenet_v2",
     "output": "gs://my-bucket/labels", "service_account": "labeler@example.com"}
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.sdk import DAG

SETTINGS = "var.json.image_labeling"


def setting(name: str) -> str:
    """A setting, looked up when the task runs."""
    return f"{{{{ {SETTINGS}.{name} }}}}"


def report_failure(context: dict[str, Any]) -> None:
    """Say which night failed, and where its log is; put your pager's call here."""
    task = context["task_instance"]
    logging.getLogger(__name__).error(
        "labeling failed in the night of %s: %s", context.get("logical_date"), task.log_url
    )


with DAG(
    dag_id="image_labeling",
    description="Labels the images that are new since last night",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    # A night that was missed is made up for by the next: it labels all that is new.
    catchup=False,
    # None begins while another is at work.
    max_active_runs=1,
    on_failure_callback=report_failure,
    tags=["labeling"],
) as dag:
    DataflowStartFlexTemplateOperator(
        task_id="label",
        project_id=setting("project"),
        location=setting("region"),
        # Dataflow refuses a second job of a name while the first is at work. So the name is the
        # same every night, and nothing is put behind it.
        append_job_name=False,
        # What has been labeled before the failure is kept, and the next attempt goes on with it.
        retries=2,
        retry_delay=timedelta(minutes=10),
        wait_until_finished=True,
        body={
            "launchParameter": {
                "jobName": "label-nightly",
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
                    # One process, and one model, on a worker.
                    "additionalExperiments": ["no_use_multiple_sdk_containers"],
                    "additionalUserLabels": {"app": "image-labeling"},
                },
            }
        },
    )
