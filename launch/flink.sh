#!/bin/sh
# Labels on a Flink cluster of this machine: to try out what a job does there before it goes to a real one.
#
#   launch/flink.sh install        fetch Flink and Beam's job server for it: 400 MB, a minute or two
#   launch/flink.sh start          start a cluster, or what has died of it, and wait until it answers
#   launch/flink.sh label FLAGS    label on it
#   launch/flink.sh status         show what runs, and where
#   launch/flink.sh stop           stop it; no process stays
#
# FLAGS are those of "python -m pipeline label". The first python on PATH runs: activate .venv first. Needs
# Linux, and Java 11 or 17; install needs Maven (mvn), too.
#
# A cluster is a JobManager, TaskManagers with a pool of Python workers each, and Beam's job server. All
# listen on this machine's loopback addresses only.
#
# Settings in the environment:
#   TASK_MANAGERS    2
#   SLOTS            1; bundles at a time on each of them
#   CLUSTER          folder of the cluster's logs, ports and process ids; by default .venv/flink/cluster.
#                    A second cluster on this machine needs one of its own
#   REST_PORT        port of Flink's page and REST interface; by default a free one
#   JOB_PORT         port of the job server; by default a free one
#   SECONDS_TO_START 120; how long start waits
#   DOWNLOADS        folder of what install fetches; by default .venv/flink
#   JOB_SERVER_JAR   a job server to take instead of those that install looks for
set -eu

here=$(cd "$(dirname "$0")" && pwd)
DOWNLOADS=${DOWNLOADS:-$(dirname "$here")/.venv/flink}
CLUSTER=${CLUSTER:-$(dirname "$here")/.venv/flink/cluster}
TASK_MANAGERS=${TASK_MANAGERS:-2}
SLOTS=${SLOTS:-1}
SECONDS_TO_START=${SECONDS_TO_START:-120}

# The job and its workers must have the same code: this folder's, also if another is installed.
PYTHONPATH=$(dirname "$here")${PYTHONPATH:+":$PYTHONPATH"}
export PYTHONPATH

FLINK=1.19.3
FLINK_SHA256=4a58e3a1fb7d83340bc96b6c080624c6d792d69fae5d294b96224775204a9c60

fail() {
    echo "error: $*" >&2
    exit "${status:-1}"
}

need() {
    command -v "$1" >/dev/null || status=2 fail "$1 is not on PATH: $2"
}

# ---- install

install() {
    need java "install Java 17 (on Debian and Ubuntu: apt-get install openjdk-17-jre-headless)"
    mkdir -p "$DOWNLOADS"
    [ -d "$DOWNLOADS/lib" ] || install_flink
    if [ ! -d "$DOWNLOADS/job-server" ] && [ -z "${JOB_SERVER_JAR:-}" ]; then
        install_job_server
    fi
    echo "Flink $FLINK and the job server are in $DOWNLOADS"
}

# Flink's jars, which PyFlink's package of them has on every mirror of PyPI.
install_flink() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    echo "apache-flink-libraries==$FLINK --hash=sha256:$FLINK_SHA256" >"$work/requirements.txt"
    python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
        --no-build-isolation --no-binary :all: --dest "$work" --requirement "$work/requirements.txt"
    tar -xzf "$work/apache-flink-libraries-$FLINK.tar.gz" -C "$work"
    mv "$work/apache-flink-libraries-$FLINK/deps/lib" "$DOWNLOADS/lib"
    rm -rf "$work"
}

# Beam's published job server, in the version of this Python's Beam or in that of pom.xml; or else one put
# together from parts.
install_job_server() {
    need mvn "install Maven (on Debian and Ubuntu: apt-get install maven), or give JOB_SERVER_JAR"
    new=$DOWNLOADS/job-server.new
    rm -rf "$new"
    mine=$(python -c 'import apache_beam; print(apache_beam.__version__)')
    tried=$(sed -n 's|.*<beam.version>\(.*\)</beam.version>.*|\1|p' "$here/flink/pom.xml")
    for beam in "$mine" "$tried"; do
        published=org.apache.beam:beam-runners-flink-${FLINK%.*}-job-server:$beam
        if maven dependency:copy "-Dartifact=$published" "-DoutputDirectory=$new" >/dev/null 2>&1; then
            mv "$new" "$DOWNLOADS/job-server"
            return
        fi
    done
    echo "Maven finds no $published: the job server is put together from its parts"
    maven --file "$here/flink/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
        "-DoutputDirectory=$new"
    (cd "$new" && sha256sum --check --quiet --strict "$here/flink/job-server.sha256")
    mv "$new" "$DOWNLOADS/job-server"
}

maven() {
    mvn --quiet --batch-mode --strict-checksums "$@"
}

# ---- start

# Flink's code reaches into these packages of Java 17; a distribution of Flink has them in its config.yaml.
opens() {
    for package in java.lang java.net java.io java.nio java.lang.reflect java.text java.time java.util \
        java.util.concurrent java.util.concurrent.atomic java.util.concurrent.locks sun.nio.ch sun.net.util \
        sun.security.x509; do
        echo "--add-opens=java.base/$package=ALL-UNNAMED"
    done
}

# Print N ports that are free on all addresses, below those that clients get.
free_ports() {
    python - "$1" <<'PROGRAM'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    one = socket.socket()
    try:
        one.bind(("", random.randrange(20000, 32000)))
    except OSError:
        continue
    held.append(one)
print(*(one.getsockname()[1] for one in held))
PROGRAM
}

# Tell whether something listens at HOST PORT.
answers() {
    python - "$1" "$2" 2>/dev/null <<'PROGRAM'
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()
PROGRAM
}

# Tell whether Flink counts this many TaskManagers.
counts() {
    python - "$REST_PORT" "$1" 2>/dev/null <<'PROGRAM'
import json, sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
overview = json.load(opener.open(f"http://127.0.0.1:{sys.argv[1]}/overview", timeout=5))
sys.exit(overview["taskmanagers"] < int(sys.argv[2]))
PROGRAM
}

# Tell whether the process NAME of this cluster runs. The time at which it started tells it from a later
# one with the same id.
runs() {
    pid=
    [ -f "$CLUSTER/$1.pid" ] || return 1
    read -r pid started <"$CLUSTER/$1.pid"
    [ "$(ps -o lstart= -p "$pid" 2>/dev/null)" = "$started" ]
}

# Start NAME as a group of its own, unless it runs.
spawn() {
    name=$1
    shift
    if runs "$name"; then
        return
    fi
    setsid "$@" </dev/null >>"$CLUSTER/$name.log" 2>&1 &
    echo "$! $(ps -o lstart= -p $!)" >"$CLUSTER/$name.pid"
}

# Wait until NAME is up: until the command that follows succeeds.
wait_for() {
    name=$1
    shift
    while ! "$@"; do
        if ! runs "$name"; then
            tail -n 20 "$CLUSTER/$name.log" >&2
            fail "$name has ended; its log: $CLUSTER/$name.log"
        fi
        if [ "$(date +%s)" -ge "$deadline" ]; then
            fail "$name does not answer after $SECONDS_TO_START s; its log: $CLUSTER/$name.log"
        fi
        sleep 0.5
    done
}

write_settings() {
    cat >"$CLUSTER/conf/config.yaml" <<SETTINGS
jobmanager.rpc.address: 127.0.0.1
jobmanager.rpc.port: $RPC_PORT
jobmanager.bind-host: 127.0.0.1
jobmanager.memory.process.size: 1g
rest.address: 127.0.0.1
rest.port: $REST_PORT
rest.bind-address: 127.0.0.1
io.tmp.dirs: $CLUSTER/tmp
taskmanager.numberOfTaskSlots: $SLOTS
# Without it, a dead TaskManager is a failed job.
restart-strategy.type: fixed-delay
# A dead TaskManager costs up to two: Flink finds out later that the results of earlier steps died with it.
restart-strategy.fixed-delay.attempts: 6
# Not before the JobManager has noticed that the TaskManager is dead. Otherwise it gives work to it, and
# the end of that attempt leaves workers that Beam never stops.
restart-strategy.fixed-delay.delay: 10 s
# Otherwise all of a small job's work lands on one TaskManager.
taskmanager.load-balance.mode: SLOTS
# Otherwise a job of so many steps ends with "Insufficient number of network buffers".
taskmanager.network.sort-shuffle.min-buffers: 16
# A dead TaskManager is noticed after 4 s instead of 20, a frozen one after 30 s instead of 50.
heartbeat.interval: 2000
heartbeat.timeout: 30000
SETTINGS
    cat >"$CLUSTER/conf/log4j2.properties" <<SETTINGS
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %c{1} - %m%n
SETTINGS
}

# Start Java's process NAME with Flink's jars.
spawn_flink() {
    name=$1
    shift
    # shellcheck disable=SC2046
    spawn "$name" java $(opens) "-Dlog4j.configurationFile=$CLUSTER/conf/log4j2.properties" \
        -cp "$DOWNLOADS/lib/*" "$@"
}

start_task_manager() {
    address=127.0.0.$1
    spawn "pool-$1" env TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}" \
        python "$here/worker_pool.py" "$address:$POOL_PORT" "127.0.0.1:$REST_PORT"
    # The job names one pool for all TaskManagers. Each must have its own: a pool tells its workers apart
    # by ids that repeat on every TaskManager. So each has its own meaning of the name "pool".
    printf '%s pool %s\n127.0.0.1 localhost\n' "$address" "$(uname -n)" >"$CLUSTER/hosts-$1"
    spawn_flink "task-manager-$1" -Xmx512m -XX:MaxDirectMemorySize=512m \
        "-Djdk.net.hosts.file=$CLUSTER/hosts-$1" \
        org.apache.flink.runtime.taskexecutor.TaskManagerRunner --configDir "$CLUSTER/conf" \
        -D "taskmanager.host=$address" -D "taskmanager.bind-host=$address" -D "taskmanager.cpu.cores=$SLOTS" \
        -D taskmanager.memory.task.heap.size=384m -D taskmanager.memory.task.off-heap.size=0 \
        -D taskmanager.memory.managed.size=128m -D taskmanager.memory.network.min=128m \
        -D taskmanager.memory.network.max=128m -D taskmanager.memory.framework.heap.size=128m \
        -D taskmanager.memory.framework.off-heap.size=128m -D taskmanager.memory.jvm-metaspace.size=256m \
        -D taskmanager.memory.jvm-overhead.min=192m -D taskmanager.memory.jvm-overhead.max=192m
}

# Print the numbers of the TaskManagers.
numbers() {
    i=1
    while [ "$i" -le "$TASK_MANAGERS" ]; do
        echo "$i"
        i=$((i + 1))
    done
}

# The settings of the cluster that was started; nothing if there is none.
read_cluster() {
    [ -f "$CLUSTER/settings" ] || return 1
    # shellcheck source=/dev/null
    . "$CLUSTER/settings"
}

new_cluster() {
    for port in ${REST_PORT:+"$REST_PORT"} ${JOB_PORT:+"$JOB_PORT"}; do
        if answers 127.0.0.1 "$port"; then
            status=2 fail "port $port is taken: give another, or none for a free one"
        fi
    done
    rm -rf "$CLUSTER"
    mkdir -p "$CLUSTER/conf" "$CLUSTER/tmp"
    # shellcheck disable=SC2046
    set -- $(free_ports 6)
    cat >"$CLUSTER/settings" <<SETTINGS
TASK_MANAGERS=$TASK_MANAGERS
SLOTS=$SLOTS
RPC_PORT=$1
POOL_PORT=$2
ARTIFACT_PORT=$3
REST_PORT=${REST_PORT:-$4}
JOB_PORT=${JOB_PORT:-$5}
EXPANSION_PORT=$6
SETTINGS
    read_cluster
    write_settings
}

job_server_jars() {
    echo "${JOB_SERVER_JAR:-$DOWNLOADS/job-server/*}"
}

start() {
    need java "install Java 17 (on Debian and Ubuntu: apt-get install openjdk-17-jre-headless)"
    if [ ! -d "$DOWNLOADS/lib" ] || { [ ! -d "$DOWNLOADS/job-server" ] && [ -z "${JOB_SERVER_JAR:-}" ]; }; then
        status=2 fail "Flink or its job server is not in $DOWNLOADS: $0 install"
    fi
    read_cluster || new_cluster
    deadline=$(($(date +%s) + SECONDS_TO_START))
    spawn_flink job-manager -Xmx512m \
        org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint \
        --configDir "$CLUSTER/conf" --executionMode cluster
    for i in $(numbers); do
        start_task_manager "$i"
    done
    spawn job-server java -Xmx512m -cp "$(job_server_jars)" \
        org.apache.beam.runners.flink.FlinkJobServerDriver "--flink-master=127.0.0.1:$REST_PORT" \
        "--flink-conf-dir=$CLUSTER/conf" --job-host=127.0.0.1 "--job-port=$JOB_PORT" \
        "--artifact-port=$ARTIFACT_PORT" "--expansion-port=$EXPANSION_PORT" "--artifacts-dir=$CLUSTER/artifacts"
    wait_for job-manager answers 127.0.0.1 "$REST_PORT"
    for i in $(numbers); do
        wait_for "pool-$i" answers "127.0.0.$i" "$POOL_PORT"
    done
    for i in $(numbers); do
        wait_for "task-manager-$i" counts "$i"
    done
    wait_for job-server answers 127.0.0.1 "$JOB_PORT"
    show_status
}

# ---- label, status, stop

# Beam's flags for this cluster, one per line.
job_flags() {
    echo "--runner=PortableRunner"
    echo "--job_endpoint=127.0.0.1:$JOB_PORT"
    # Workers come from the pool beside each TaskManager.
    echo "--environment_type=EXTERNAL"
    echo "--environment_config=pool:$POOL_PORT"
    # A bundle at a time in each slot.
    echo "--parallelism=$((TASK_MANAGERS * SLOTS))"
}

label() {
    read_cluster || status=2 fail "no cluster runs: $0 start"
    while IFS= read -r flag; do
        set -- "$@" "$flag"
    done <<FLAGS
$(job_flags)
FLAGS
    exec python -m pipeline label "$@"
}

names() {
    echo job-manager
    for i in $(numbers); do
        echo "pool-$i"
        echo "task-manager-$i"
    done
    echo job-server
}

# Succeeds if all parts run.
show_status() {
    if ! read_cluster; then
        echo "no cluster in $CLUSTER"
        return 1
    fi
    dead=
    for name in $(names); do
        if runs "$name"; then
            echo "$name: process $pid, log $CLUSTER/$name.log"
        else
            dead=1
            echo "$name: has ended, log $CLUSTER/$name.log"
        fi
    done
    echo "jobs: http://127.0.0.1:$REST_PORT"
    echo "flags:" "$(job_flags | tr '\n' ' ')"
    [ -z "$dead" ]
}

# The process and what it started, if they are not gone yet.
group_lives() {
    kill -0 "-$1" 2>/dev/null
}

stop() {
    read_cluster || return 0
    groups=
    for name in $(names); do
        # Or it has ended, and left processes that it started.
        if runs "$name" || { [ -n "$pid" ] && ! kill -0 "$pid" 2>/dev/null && group_lives "$pid"; }; then
            groups="$groups $pid"
        fi
    done
    for group in $groups; do
        kill -TERM "-$group" 2>/dev/null || true
    done
    deadline=$(($(date +%s) + 10))
    for group in $groups; do
        while group_lives "$group" && [ "$(date +%s)" -lt "$deadline" ]; do
            sleep 0.2
        done
        kill -KILL "-$group" 2>/dev/null || true
    done
    rm -f "$CLUSTER"/*.pid "$CLUSTER/settings"
    rm -rf "$CLUSTER/tmp" "$CLUSTER/artifacts"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    install) install ;;
    start) start ;;
    label) label "$@" ;;
    status) show_status ;;
    stop) stop ;;
    *)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
