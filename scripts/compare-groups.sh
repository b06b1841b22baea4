#!/usr/bin/env bash
# Groups on Apache Kafka and on Corelog in turn on this machine: rebalances and commits, as ratios.
#
#   scripts/compare-groups.sh                    three rounds, about half an hour
#   scripts/compare-groups.sh --rounds 1 --members 1,100 --protocols consumer
#   scripts/compare-groups.sh --pinned           broker on core 1, members on core 0
#
# Prints a Markdown table; every single measurement is in target/compare-groups.json.
set -euo pipefail
cd "$(dirname "$0")/.."
./scripts/install-test-tools
if [ -z "${BIN_UNDER_TEST:-}" ]; then
  cargo build --profile dist --locked
  export BIN_UNDER_TEST="$PWD/target/dist/corelog"
fi
exec python3 scripts/compare_groups.py "$@"
