#!/usr/bin/env bash
# Installs what `make test-image` needs on Debian; does nothing if it is already installed.
set -euo pipefail
for tool in buildah debootstrap runc curl; do
    command -v "$tool" > /dev/null || missing+=("$tool")
done
if [[ -n "${missing[*]:-}" ]]; then
    apt-get update --quiet
    apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
fi
