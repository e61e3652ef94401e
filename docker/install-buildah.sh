#!/usr/bin/env bash
# What `make test-image` needs on Debian; quick where it is there already.
set -euo pipefail
for tool in buildah debootstrap runc curl; do
    command -v "$tool" > /dev/null || missing+=("$tool")
done
if [[ -n "${missing[*]:-}" ]]; then
    apt-get update --quiet
    apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
fi
