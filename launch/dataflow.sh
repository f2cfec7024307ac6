#!/bin/sh
# Labels a bucket on Google Dataflow.
#
#   launch/dataflow.sh setup                   turn on the services, and make the images' repository
#   launch/dataflow.sh image                   build the image of workers and launcher (Cloud Build)
#   launch/dataflow.sh template                publish the flex template of that image
#   launch/dataflow.sh label FLAGS             start a job from this machine, and wait for it
#   launch/dataflow.sh start [--wait] FLAGS    start a job from the template; with --wait, wait for it
#   launch/dataflow.sh start FLAGS -- OPTIONS  the same, with options of "gcloud dataflow flex-template run",
#                                              such as --worker-zone or --launcher-machine-type
#
# FLAGS are those of "python -m pipeline label"; start takes them as --name=value. The first python on
# PATH runs: activate .venv first. Its version must be that of the image.
#
# Settings in the environment:
#   PROJECT, REGION, BUCKET   where; BUCKET without gs://
#   GPU                       empty for CPUs, or a type, such as nvidia-tesla-t4 or nvidia-l4
#   MACHINE                   type of the workers; n2-standard-4, or the smallest that the GPU is built into
#   MAX_WORKERS               20; limits the bill
#   MODEL                     for image: a SavedModel folder in the repository, which becomes /model
#   NO_PUBLIC_IPS             1 for workers without public addresses (needs Private Google Access)
#   SUBNETWORK                regions/REGION/subnetworks/NAME, if it is not the default one
#   IMAGE                     name of the image; by default image-labeling/cpu or gpu in Artifact Registry,
#                             tagged with TAG
#   TAG                       tag of the image; by default the commit, so that a worker that starts late has
#                             the code of the others
#   JOB_NAME                  name of the job; by default label- and the output's name, so that Dataflow
#                             refuses a second job on an output while the first one runs
#   SERVICE_ACCOUNT           account of the workers, if it is not Compute Engine's default
set -eu

: "${PROJECT:?is not set: the project that pays}"
: "${REGION:?is not set: where the bucket is, such as europe-west1}"
: "${BUCKET:?is not set: for the template and for temporary files, without gs://}"
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/settings.sh
. "$here/settings.sh"
if [ -z "${IMAGE:-}" ]; then
    if [ -z "${TAG:-}" ] && ! TAG=$(git -C "$here" describe --always --dirty --abbrev=12 --exclude='*'); then
        echo "error: this is no clone of the repository: set TAG to the version of the image" >&2
        exit 2
    fi
    IMAGE=$REGION-docker.pkg.dev/$PROJECT/image-labeling/$KIND:$TAG
fi

# Beam's flags for the workers, one per line.
worker_flags() {
    # The image has Python, every package and this one: nothing is installed when a worker starts.
    echo "--sdk_container_image=$IMAGE"
    echo "--sdk_location=container"
    echo "--machine_type=$MACHINE"
    # The image, the model, and what is decoded ahead.
    echo "--disk_size_gb=50"
    # One process on a worker, not one on each core: one copy of TensorFlow and of the model, which
    # keep all cores busy by threads.
    echo "--experiments=no_use_multiple_sdk_containers"
    # Bundles at a time in that process: one predicts while others wait for images.
    echo "--number_of_worker_harness_threads=4"
    # As many workers as keep up with the work, and no more than these.
    echo "--autoscaling_algorithm=THROUGHPUT_BASED"
    echo "--max_num_workers=$MAX_WORKERS"
    # Tells these jobs from others on the bill.
    echo "--labels=app=image-labeling"
    if [ -n "$GPU" ]; then
        # For the whole job: a hint at one step would separate decoding and predicting.
        echo "--dataflow_service_options=$ACCELERATOR"
    fi
    if [ -n "${NO_PUBLIC_IPS:-}" ]; then
        echo "--no_use_public_ips"
    fi
    if [ -n "${SUBNETWORK:-}" ]; then
        echo "--subnetwork=$SUBNETWORK"
    fi
    if [ -n "${SERVICE_ACCOUNT:-}" ]; then
        echo "--service_account_email=$SERVICE_ACCOUNT"
    fi
}

setup() {
    gcloud services enable --project="$PROJECT" dataflow.googleapis.com compute.googleapis.com \
        storage.googleapis.com artifactregistry.googleapis.com cloudbuild.googleapis.com \
        cloudscheduler.googleapis.com
    if ! gcloud artifacts repositories describe image-labeling --project="$PROJECT" \
        --location="$REGION" --format='value(name)' >/dev/null 2>&1; then
        gcloud artifacts repositories create image-labeling --project="$PROJECT" \
            --location="$REGION" --repository-format=docker
    fi
}

build_image() {
    # Cloud Build takes the Dockerfile's arguments from a configuration, which gcloud reads here.
    gcloud builds submit "$here/.." --project="$PROJECT" --region="$REGION" --config=/dev/stdin <<END
steps:
  - name: gcr.io/cloud-builders/docker
    args: [build, --file=launch/Dockerfile, --tag=$IMAGE, --build-arg=KIND=$KIND, --build-arg=IMAGE=$IMAGE, "--build-arg=MODEL=${MODEL:-}", .]
images: ["$IMAGE"]
timeout: 3600s
END
}

publish_template() {
    gcloud dataflow flex-template build "$TEMPLATE" --project="$PROJECT" --image="$IMAGE" \
        --sdk-language=PYTHON --metadata-file="$here/flex_template.json"
}

# Refuse to describe a job with another Python than the workers run: functions travel as its bytecode.
check_python() {
    image=$(sed -n 's/^ARG PYTHON_VERSION=//p' "$here/Dockerfile")
    mine=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$mine" != "$image" ]; then
        echo "error: the first python on PATH is $mine, the image's is $image: activate an" \
            "environment with $image, or use start, which needs none" >&2
        exit 2
    fi
}

label() {
    check_python
    job=$(job_name "$@")
    # "$@" comes first, so that the command line's flags can be told from those added here.
    set -- "$@" --runner=DataflowRunner "--project=$PROJECT" "--region=$REGION" \
        "--job_name=$job" "--temp_location=gs://$BUCKET/tmp" \
        "--staging_location=gs://$BUCKET/staging"
    if [ -n "$GPU" ]; then
        set -- "$@" --require_gpu
    fi
    while IFS= read -r flag; do
        set -- "$@" "$flag"
    done <<END
$(worker_flags)
END
    exec python -m pipeline label "$@"
}

# Turn a flag, --name=value or --name, into the template's parameter name=value.
parameter() {
    case $1 in
        *"~"*)
            echo "error: $1: has a tilde, which tells parameters apart; give it in a --config" >&2
            exit 2
            ;;
        --*=*) echo "${1#--}" ;;
        --*) echo "${1#--}=true" ;;
        *)
            echo "error: $1: start takes flags as --name=value" >&2
            exit 2
            ;;
    esac
}

start() {
    wait=
    if [ "${1:-}" = --wait ]; then
        wait=1
        shift
    fi
    output=$(output_of "$@")
    if [ -n "$wait" ] && [ -z "$output" ]; then
        echo "error: --wait takes the last lines from the results; give --output=FOLDER here" >&2
        exit 2
    fi
    job=$(job_name "$@")
    parameters=
    while [ $# -gt 0 ]; do
        flag=$1
        shift
        if [ "$flag" = -- ]; then
            break
        fi
        added=$(parameter "$flag")
        case "~$parameters" in
            *"~${added%%=*}="*)
                echo "error: --${added%%=*} is given twice; a template takes one value: put several" \
                    "inputs into a list, or into a file for --config" >&2
                exit 2
                ;;
        esac
        parameters="$parameters${parameters:+"~"}$added"
    done
    if [ -n "$GPU" ]; then
        parameters="$parameters${parameters:+"~"}require_gpu=true"
        added="--additional-experiments=no_use_multiple_sdk_containers,$ACCELERATOR"
    else
        added=--additional-experiments=no_use_multiple_sdk_containers
    fi
    # Values may contain commas, so tildes separate parameters.
    # What is left of "$@" stood behind "--".
    set -- "$job" --project="$PROJECT" --region="$REGION" \
        --template-file-gcs-location="$TEMPLATE" --parameters="^~^$parameters" \
        --worker-machine-type="$MACHINE" --max-workers="$MAX_WORKERS" \
        --temp-location="gs://$BUCKET/tmp" --staging-location="gs://$BUCKET/staging" \
        --additional-user-labels=app=image-labeling "$added" --format='value(job.id)' "$@"
    if [ -n "${NO_PUBLIC_IPS:-}" ]; then
        set -- "$@" --disable-public-ips
    fi
    if [ -n "${SUBNETWORK:-}" ]; then
        set -- "$@" --subnetwork="$SUBNETWORK"
    fi
    if [ -n "${SERVICE_ACCOUNT:-}" ]; then
        set -- "$@" --service-account-email="$SERVICE_ACCOUNT"
    fi
    job=$(gcloud dataflow flex-template run "$@")
    echo "https://console.cloud.google.com/dataflow/jobs/$REGION/$job?project=$PROJECT"
    if [ -n "$wait" ]; then
        wait_for "$job" "$output"
    fi
}

# Report the job's progress every half a minute until it ends; then print a local run's last lines.
wait_for() {
    echo "waiting; Ctrl-C does not stop the job, this does:" \
        "gcloud dataflow jobs cancel $1 --region=$REGION --project=$PROJECT" >&2
    while :; do
        state=$(gcloud dataflow jobs describe "$1" --project="$PROJECT" --region="$REGION" \
            --format='value(currentState)')
        # gcloud has the metrics in its beta commands only, which may not be installed.
        counts=$(gcloud beta dataflow metrics list "$1" --project="$PROJECT" --region="$REGION" \
            --source=user --filter='name.name ~ ^images_' \
            --format='value[separator=" "](scalar,name.name)' 2>/dev/null) || counts=
        echo "$state" "$(echo "$counts" | tr '\n' ' ')" >&2
        case $state in
            JOB_STATE_DONE) break ;;
            JOB_STATE_FAILED | JOB_STATE_CANCELLED | JOB_STATE_UPDATED | JOB_STATE_DRAINED)
                echo "error: the job has not ended well: $state; its log says why" >&2
                exit 1
                ;;
        esac
        sleep "${SECONDS_BETWEEN_LOOKS:-30}"
    done
    # With --incremental the run has a folder of its own, the latest.
    summary=$(gcloud storage ls "$2/summary.json" "$2/run=*/summary.json" 2>/dev/null | sort | tail -n 1)
    python -m pipeline report "${summary%/summary.json}"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    setup) setup ;;
    image) build_image ;;
    template) publish_template ;;
    label) label "$@" ;;
    start) start "$@" ;;
    *)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
