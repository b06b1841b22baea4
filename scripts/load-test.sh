#!/usr/bin/env bash
# A ladder of loads against one running broker, Corelog or any other of the Kafka protocol.
#
#   scripts/load-test.sh --bootstrap 127.0.0.1:9092
#   scripts/load-test.sh --bootstrap 127.0.0.1:9092 --pid $(pidof corelog)     with its CPU and memory
#   scripts/load-test.sh --bootstrap HOST:PORT --only rates --seconds 10
#
# Writes at rates that double until the broker does not keep up, with small, middle and large
# requests; with 1 to 1,000 connections; reads with 1 to 16. Everything goes to a topic of its own,
# which is deleted at the end. Prints a Markdown report; it is in target/load-test.md, and every
# figure in target/load-test.json.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -n "${BIN_UNDER_TEST:-}" ] || cargo build --release --locked
exec python3 scripts/load_test.py "$@"
