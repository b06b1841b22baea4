#!/usr/bin/env bash
# Apache Kafka and Corelog in turn on this machine, the same load on both, as ratios.
#
#   scripts/compare-kafka.sh                     five rounds, about fifteen minutes
#   scripts/compare-kafka.sh --rounds 2 --seconds 3
#   scripts/compare-kafka.sh --pinned            broker on core 1, client on core 0
#
# Prints a Markdown table; every single measurement is in target/compare-kafka.json.
set -euo pipefail
cd "$(dirname "$0")/.."
./scripts/install-test-tools
[ -n "${BIN_UNDER_TEST:-}" ] || cargo build --release --locked
exec python3 scripts/compare_kafka.py "$@"
