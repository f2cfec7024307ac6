# shellcheck shell=sh
# What dataflow.sh and nightly/scheduler.sh share; they source this file. It sets KIND, MACHINE,
# MAX_WORKERS, ACCELERATOR and TEMPLATE, also for the programs that they start.

GPU=${GPU:-}
MAX_WORKERS=${MAX_WORKERS:-20}
KIND=${GPU:+gpu}
KIND=${KIND:-cpu}
TEMPLATE=gs://${BUCKET:-}/templates/image-labeling-$KIND.json

# Newer GPUs are built into machines of their own; the older ones are put into any n1.
# https://cloud.google.com/compute/docs/gpus
if [ -z "${MACHINE:-}" ]; then
    case $GPU in
        '') MACHINE=n2-standard-4 ;;
        nvidia-l4) MACHINE=g2-standard-8 ;;
        nvidia-tesla-t4 | nvidia-tesla-p4 | nvidia-tesla-p100 | nvidia-tesla-v100) MACHINE=n1-standard-8 ;;
        nvidia-tesla-a100) MACHINE=a2-highgpu-1g ;;
        nvidia-a100-80gb) MACHINE=a2-ultragpu-1g ;;
        nvidia-h100-80gb | nvidia-h100-mega-80gb) MACHINE=a3-highgpu-1g ;;
        *)
            echo "error: GPU=$GPU: set MACHINE to a type of machine that has this GPU" >&2
            exit 2
            ;;
    esac
fi

# Without a version, Dataflow may install a driver of 4xx, too old for the CUDA 12 of TensorFlow.
# https://cloud.google.com/dataflow/docs/gpu/use-gpus
ACCELERATOR=${GPU:+"worker_accelerator=type:$GPU;count:1;install-nvidia-driver:5xx"}

export KIND MACHINE MAX_WORKERS ACCELERATOR TEMPLATE

# Print the output folder in FLAGS; nothing if it is in a --config.
output_of() {
    output=
    while [ $# -gt 0 ]; do
        case $1 in
            --output=*) output=${1#--output=} ;;
            --output) output=${2:-} ;;
        esac
        shift
    done
    echo "${output%/}"
}

# Print a name for the job of FLAGS, the same for the same output, so that Dataflow refuses a second job
# on it: gs://bucket/labels makes label-bucket-labels. pipeline/runners/dataflow.py and
# nightly/airflow_dag.py do the same.
job_name() {
    output=$(output_of "$@")
    if [ -n "${JOB_NAME:-}" ]; then
        echo "$JOB_NAME"
    elif [ -n "$output" ]; then
        path=$(printf %s "${output#*://}" | LC_ALL=C tr -cs 'A-Za-z0-9' '-' | tr '[:upper:]' '[:lower:]')
        path=${path#-}
        echo "label-${path%-}"
    else
        echo "label-$(printf %s "$*" | cksum | cut -d ' ' -f 1)"
    fi
}
