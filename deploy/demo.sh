#!/bin/sh
# 200 simulated phones and a real rollout against them over UDP on loopback.
set -eu
bin=${BIN:-.venv/bin}
folder=$(mktemp -d)
simulator=
cleanup() {
    [ -z "$simulator" ] || kill "$simulator" 2>/dev/null || true
    [ -z "$simulator" ] || wait "$simulator" 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

"$bin/resyncctl" sim 200 --csv "$folder/phones.csv" --answer 200:95%,404:2%,503:3% --delay 5ms-80ms &
simulator=$!
tries=0
until [ -s "$folder/phones.csv" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "the simulated phones did not start" >&2; exit 1; }
    sleep 0.1
done
export RESYNCCTL_DATA_DIR="$folder/data"
set -- --batch-size 25 --batch-interval 1s --random-delay 700ms --retry-delay 500ms --yes
echo "\$ resyncctl plan phones.csv $*"
"$bin/resyncctl" plan "$folder/phones.csv" "$@"
echo
echo "\$ resyncctl run phones.csv $*"
status=0
"$bin/resyncctl" run "$folder/phones.csv" "$@" || status=$?
# Some of these phones are meant to fail: 0 and 1 are both what the demo shows.
[ "$status" -le 1 ] || exit "$status"
echo
echo "\$ resyncctl rollout results --state rejected"
"$bin/resyncctl" rollout results --state rejected | head -8
