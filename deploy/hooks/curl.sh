#!/bin/sh
# Tell a hook of resyncctl that phones have changed.
#
#     curl.sh URL [EXTENSION…]       no extension: all phones of the hook
#
# URL is https://HOST:8420/v1/hooks/NAME. One of these files says who calls (chmod 600; not both):
#     RESYNCCTL_SECRET_FILE   the secret that `resyncctl hook add` has printed: the call is signed
#     RESYNCCTL_TOKEN_FILE    an API token of scope trigger, for a hook that was added with --auth token
# Needs curl and, for a signature, openssl. Exit status 0: the hook has been told.
#
# openssl takes the secret as an argument, which for a moment every user of this machine can see. Where others log in, use
# a token, or freepbx-ami-reload.py, which signs by itself.
set -eu
url=${1:?write curl.sh URL [EXTENSION…]}
shift
names=""
for extension in "$@"; do
    case $extension in
    "" | *[!A-Za-z0-9@._:+*#-]*) # a variable that was not set must not resync everybody
        echo "curl.sh: '$extension' is no extension" >&2
        exit 2
        ;;
    esac
    names="$names${names:+,}\"$extension\""
done

call() {
    # The nonce makes two calls of one second differ: a signature is good once.
    body="{${names:+\"extensions\":[$names],}\"nonce\":\"$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')\"}"
    if [ -n "${RESYNCCTL_SECRET_FILE:-}" ]; then
        now=$(date +%s)
        sum=$(printf '%s.%s' "$now" "$body" | openssl dgst -sha256 -hmac "$(cat "$RESYNCCTL_SECRET_FILE")")
        printf 'header = "X-Resyncctl-Timestamp: %s"\nheader = "X-Resyncctl-Signature: sha256=%s"\n' "$now" "${sum##* }"
    else
        printf 'header = "Authorization: Bearer %s"\n' "$(cat "${RESYNCCTL_TOKEN_FILE:?name RESYNCCTL_SECRET_FILE or RESYNCCTL_TOKEN_FILE}")"
    fi | curl --config - --silent --show-error --fail --output /dev/null --connect-timeout 3 --max-time 5 \
        --header 'Content-Type: application/json' --data "$body" "$url"
}

# Each try is signed anew; a call that was heard twice joins its own rollout.
call || { sleep 1 && call; } || { sleep 2 && call; }
