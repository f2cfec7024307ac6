#!/bin/sh
# Every night at two, on Google Cloud: Cloud Scheduler starts the flex template of launch/dataflow.sh.
#
#   launch/nightly/scheduler.sh apply FLAGS    create or change the schedule
#   launch/nightly/scheduler.sh run            start a night now
#   launch/nightly/scheduler.sh delete         remove the schedule, if there is one
#   launch/nightly/scheduler.sh alert          create or change the alerts for nights that failed, and for
#                                              nights that could not be started (CHANNEL)
#
# FLAGS are those of "python -m pipeline label", as --name=value; --incremental is added.
#
# A second night does not begin while one is running: Dataflow refuses a second job of the same name.
# What a failed night leaves undone, the next one does.
#
# Settings in the environment: PROJECT, REGION, BUCKET, GPU, MACHINE, MAX_WORKERS,
# NO_PUBLIC_IPS, SUBNETWORK, SERVICE_ACCOUNT and JOB_NAME as in launch/dataflow.sh, and
#   JOB                 name of the schedule; label-nightly
#   SCHEDULER_ACCOUNT   account that starts the job; SERVICE_ACCOUNT by default
#   SCHEDULE            '0 2 * * *'
#   TIME_ZONE           Etc/UTC
#   CHANNEL             for alert, in Cloud Monitoring: projects/PROJECT/notificationChannels/ID
#
# The minimal roles of the accounts:
#   SCHEDULER_ACCOUNT   roles/dataflow.developer in the project, roles/iam.serviceAccountUser on
#                       SERVICE_ACCOUNT, roles/storage.objectViewer on BUCKET (the template)
#   SERVICE_ACCOUNT     roles/dataflow.worker in the project, and roles/dataflow.viewer, to ask whether the
#                       last night has ended; roles/storage.objectViewer on the bucket of the images,
#                       roles/storage.objectUser on those of the output and of temporary files,
#                       roles/artifactregistry.reader on the image; with --output_table
#                       roles/bigquery.jobUser in the project and roles/bigquery.dataEditor on the dataset
set -eu

: "${PROJECT:?is not set: the project that pays}"
: "${REGION:?is not set: where the bucket is, such as europe-west1}"
JOB=${JOB:-label-nightly}
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/settings.sh
. "$here/../settings.sh"

is_scheduled() {
    gcloud scheduler jobs describe "$JOB" --project="$PROJECT" --location="$REGION" \
        --format='value(name)' >/dev/null 2>&1
}

apply() {
    : "${BUCKET:?is not set: for the template and for temporary files, without gs://}"
    : "${SERVICE_ACCOUNT:?is not set: the account that the workers run as}"
    body=$(python3 "$here/launch_body.py" "$(job_name "$@")" "$@")
    action=create
    headers=--headers=Content-Type=application/json
    if is_scheduled; then
        action=update
        headers=--update-headers=Content-Type=application/json
    fi
    gcloud scheduler jobs "$action" http "$JOB" --project="$PROJECT" --location="$REGION" \
        --schedule="${SCHEDULE:-0 2 * * *}" --time-zone="${TIME_ZONE:-Etc/UTC}" \
        --uri="https://dataflow.googleapis.com/v1b3/projects/$PROJECT/locations/$REGION/flexTemplates:launch" \
        --http-method=POST "$headers" --message-body="$body" \
        --oauth-service-account-email="${SCHEDULER_ACCOUNT:-$SERVICE_ACCOUNT}" \
        --max-retry-attempts=3
}

delete() {
    if is_scheduled; then
        gcloud scheduler jobs delete "$JOB" --project="$PROJECT" --location="$REGION" --quiet
    fi
}

# Create or change the alert policy of a name, from a file. Older versions of gcloud have policies in
# its alpha commands only.
apply_policy() {
    policy=$(gcloud alpha monitoring policies list --project="$PROJECT" \
        --filter="displayName=\"$1\"" --format='value(name)')
    if [ -n "$policy" ]; then
        gcloud alpha monitoring policies update "$policy" --project="$PROJECT" \
            --set-notification-channels="$CHANNEL" --policy-from-file="$here/$2"
    else
        gcloud alpha monitoring policies create --project="$PROJECT" \
            --notification-channels="$CHANNEL" --policy-from-file="$here/$2"
    fi
}

alert() {
    : "${CHANNEL:?is not set: gcloud beta monitoring channels list names it}"
    apply_policy "A night of labeling failed" alert_failed.json
    # A launch that is refused makes no job that could fail.
    apply_policy "A night of labeling was not started" alert_not_started.json
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    apply) apply "$@" ;;
    run) gcloud scheduler jobs run "$JOB" --project="$PROJECT" --location="$REGION" ;;
    delete) delete ;;
    alert) alert ;;
    *)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
