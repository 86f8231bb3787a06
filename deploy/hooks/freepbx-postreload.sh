#!/bin/sh
# FreePBX: after "Apply Config", tell a hook of resyncctl. Comes back at once, since FreePBX waits for it.
#
# Where FreePBX runs it: README.md in this folder. What it needs is in /etc/resyncctl-hook.conf, lines of shell:
#     RESYNCCTL_HOOK_URL=https://resync.example.com:8420/v1/hooks/freepbx
#     RESYNCCTL_SECRET_FILE=/etc/resyncctl-hook.secret        (or RESYNCCTL_TOKEN_FILE=…; readable by the user asterisk)
# curl.sh has to stand beside this script. Failures go to the system log, tag resyncctl-hook.
set -eu
# shellcheck disable=SC1090  # the administrator's
. "${RESYNCCTL_HOOK_CONF:-/etc/resyncctl-hook.conf}"
export RESYNCCTL_SECRET_FILE="${RESYNCCTL_SECRET_FILE:-}" RESYNCCTL_TOKEN_FILE="${RESYNCCTL_TOKEN_FILE:-}"
folder=$(cd "$(dirname "$0")" && pwd)
(
    if ! said=$(sh "$folder/curl.sh" "$RESYNCCTL_HOOK_URL" 2>&1); then
        logger -t resyncctl-hook "the hook was not told: $said" || true
    fi
) </dev/null >/dev/null 2>&1 &
