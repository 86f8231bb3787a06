#!/bin/sh
# Install the Debian packages that the tests talk to, when they are missing and we may.
set -eu
missing=""
for pair in sipp:sip-tester kamailio:kamailio baresip:baresip-core redis-server:redis-server tshark:tshark cc:gcc \
    curl:curl openssl:openssl lua5.4:lua5.4 php:php-cli promtool:prometheus systemd-analyze:systemd nginx:nginx-light dnsmasq:dnsmasq-base sngrep:sngrep; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
ls /usr/lib/*/kamailio/modules/http_client.so >/dev/null 2>&1 || missing="$missing kamailio-utils-modules"
ls /usr/lib/*/kamailio/modules/tls.so >/dev/null 2>&1 || missing="$missing kamailio-tls-modules"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then
    echo "installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Their services are not wanted: the tests start their own servers on free ports.
    # shellcheck disable=SC2086
    RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $missing libc6-dev >/dev/null
else
    echo "not installed (their tests are skipped by name):$missing"
fi
