#!/usr/bin/env bash
# Installs prometheus and promtool from Debian's package; does nothing if they are already installed.
# The package is unpacked instead of installed, since it would start a daemon.
set -euo pipefail
command -v prometheus > /dev/null && command -v promtool > /dev/null && exit
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
chmod 755 "$folder" # apt downloads as a user of its own
cd "$folder"
apt-get update --quiet
apt-get download --quiet prometheus
dpkg -x prometheus_*.deb .
install --mode 755 usr/bin/prometheus usr/bin/promtool /usr/local/bin
