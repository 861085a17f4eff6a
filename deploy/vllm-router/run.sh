#!/bin/sh
# vllm-router in front of two glmserve servers. See deploy/README.md.
#
#   pip install vllm-router==0.1.17
#   SERVERS="http://127.0.0.1:8001 http://127.0.0.1:8002" deploy/vllm-router/run.sh
#
# Conversations go to the server that has their beginning in its prefix cache. A server that drains
# or loads is left out, and a request that no server has begun to answer is sent again.
set -eu

# shellcheck disable=SC2086 # several URLs
exec vllm-router \
    --host "${HOST-127.0.0.1}" --port "${PORT-8080}" \
    --prometheus-port "${METRICS_PORT-8404}" \
    --worker-urls ${SERVERS-http://127.0.0.1:8001 http://127.0.0.1:8002} \
    --policy "${POLICY-cache_aware}" \
    --health-check-endpoint /health/ready --health-check-interval-secs 1 \
    --health-failure-threshold 1 --health-success-threshold 1 \
    --request-timeout-secs 3600
