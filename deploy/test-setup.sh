#!/bin/sh
# Prepares a Debian machine for the heavy tests of deploy/. As root, from the repository's root, in
# the environment of `pip install -e '.[dev]'`:
#
#   deploy/test-setup.sh
#   . /var/tmp/glmserve-test/environment && pytest -m deploy tests/deploy
#
# No registry of images is needed: the base image is made by debootstrap. Images and programs are
# kept in /var/tmp/glmserve-test, or in the folder in STATE.
set -eu

STATE=${STATE-/var/tmp/glmserve-test}
RELEASE=${RELEASE-bookworm}
mkdir -p "$STATE"

install_packages() {
    apt-get update --quiet
    apt-get install --yes --quiet --no-install-recommends \
        buildah debootstrap haproxy nginx-light podman prometheus redis-server runc \
        systemd-container golang-github-containernetworking-plugin-dnsname
}

# How podman runs on a machine without systemd.
configure_podman() {
    cat > "$STATE/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
CONF
    printf '{"default": [{"type": "insecureAcceptAnything"}]}\n' > "$STATE/policy.json"
    cat > "$STATE/podman" <<PODMAN
#!/bin/sh
exec podman --root "$STATE/storage" --runroot "$STATE/run" "\$@"
PODMAN
    chmod +x "$STATE/podman"
}

base_image() {
    if [ ! -e "$STATE/base.tar" ]; then
        debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
            "$RELEASE" "$STATE/base"
        tar --create --directory "$STATE/base" --file "$STATE/base.tar" .
        rm -r "$STATE/base"
    fi
    "$STATE/podman" import --quiet "$STATE/base.tar" "localhost/debian:$RELEASE"
}

# build NAME FILE FOLDER [OPTION...]: the machine's certificates and pip.conf hold inside as well.
build() {
    name=$1 file=$2 folder=$3
    shift 3
    certificates=/etc/ssl/certs/ca-certificates.crt
    set -- "$@" --volume "$certificates:$certificates:ro"
    settings=${PIP_CONFIG_FILE-$HOME/.config/pip/pip.conf}
    if [ -e "$settings" ]; then
        set -- "$@" --volume "$settings:/etc/pip.conf:ro"
    fi
    for index in ${LOCAL_INDEXES-}; do # folders that pip.conf names
        set -- "$@" --volume "$index:$index:ro"
    done
    buildah --root "$STATE/storage" --runroot "$STATE/run" bud --isolation chroot --network host \
        --signature-policy "$STATE/policy.json" --format docker "$@" \
        --tag "localhost/$name" --file "$file" "$folder"
}

# What stands for the images of HAProxy and Prometheus: Debian's own.
services_image() {
    cat > "$STATE/Services" <<FILE
FROM localhost/debian:$RELEASE
RUN apt-get update && apt-get install --yes --no-install-recommends haproxy prometheus
CMD ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/tmp/data"]
FILE
    build glmserve-test-services "$STATE/Services" "$STATE"
}

programs() {
    python3 -m venv "$STATE/programs"
    "$STATE/programs/bin/pip" install --quiet vllm-router==0.1.17 podman-compose==1.6.0
}

install_packages
configure_podman
export CONTAINERS_CONF="$STATE/containers.conf"
base_image
build glmserve deploy/container/Dockerfile . \
    --build-arg "BASE=localhost/debian:$RELEASE" --build-arg "TORCH_INDEX=${TORCH_INDEX-}"
services_image
programs
cat > "$STATE/environment" <<ENVIRONMENT
export CONTAINERS_CONF="$STATE/containers.conf"
export GLMSERVE_TEST_IMAGE=localhost/glmserve
export GLMSERVE_TEST_SERVICES_IMAGE=localhost/glmserve-test-services
export GLMSERVE_TEST_PODMAN="$STATE/podman"
export GLMSERVE_TEST_PODMAN_COMPOSE="$STATE/programs/bin/podman-compose"
export GLMSERVE_TEST_VLLM_ROUTER="$STATE/programs/bin/vllm-router"
ENVIRONMENT
echo "Now: . $STATE/environment && pytest -m deploy tests/deploy"
