#!/usr/bin/env bash
# Apache Kafka and Corelog in turn on this machine, the same load on both, as ratios.
#
#   scripts/compare-kafka.sh                        seven rounds of the usual sets: 70 minutes on a quiet
#                                                 machine, twice that where others disturb (--patience)
#   scripts/compare-kafka.sh --list                 the sets of loads, their figures, what is wanted
#   scripts/compare-kafka.sh --only produce,consume --rounds 3
#   scripts/compare-kafka.sh --rounds 1 --seconds 1 --warm 2     shows that it works, no more
#   scripts/compare-kafka.sh --pinned               broker on core 1, client on core 0
#   scripts/compare-kafka.sh --only durable,skew,scale --rounds 3    sets that run only when named
#   scripts/compare-kafka.sh --only backfill --backfill-gib 20       (room for it on the disk)
#   scripts/compare-kafka.sh --only soak --soak-minutes 60 --rounds 1 --brokers corelog
#   scripts/compare-kafka.sh --only durable --rounds 4 --append      goes on with the last run
#   scripts/compare-kafka.sh --redraw FILE.json     table and page of an earlier run
#
# BIN_UNDER_TEST=path measures another build; the bare echo on Corelog's own runtime is then the
# examples/echo beside it, or ECHO_UNDER_TEST. Prints a Markdown table. Every single measurement is
# in target/compare-kafka.json, plots are in target/compare-kafka.html; both are written anew after
# each round. Needs a C compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in
  *" --list "* | *" --redraw "* | *" --help "*) exec python3 scripts/compare_kafka.py "$@" ;;
esac
./scripts/install-test-tools
if [ -z "${BIN_UNDER_TEST:-}" ]; then
  cargo build --profile dist --locked --bins --example echo
  export BIN_UNDER_TEST="$PWD/target/dist/corelog"
fi
exec python3 scripts/compare_kafka.py "$@"
