"""Loads the DAG as Airflow does, in Airflow's own environment, and prints what is in it as JSON."""

import json
import sys

from airflow.dag_processing.dagbag import DagBag

bag = DagBag(dag_folder=sys.argv[1])
[dag] = bag.dags.values() if bag.dags else [None]
[task] = dag.tasks if dag else [None]
print(
    "DAG"
    + json.dumps(
        {
            "errors": bag.import_errors,
            "dag_id": dag and dag.dag_id,
            "schedule": dag and dag.schedule,
            "catchup": dag and dag.catchup,
            "max_active_runs": dag and dag.max_active_runs,
            "has_failure_callback": bool(dag and dag.on_failure_callback),
            "operator": task and task.task_type,
            "deferrable": task and task.deferrable,
            "append_job_name": task and task.append_job_name,
            "retries": task and task.retries,
            "templated": task and list(task.template_fields),
            "body": task and task.body,
        }
    )
)
