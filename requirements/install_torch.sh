#!/bin/sh
# Installs torch, and what its CUDA build needs. An index's or a folder's CPU build, if pip is told of
# one, satisfies the same line; so torch has no hash, and its CUDA packages are no part of another lock.
#
# usage: install_torch.sh PIP...    the words that stand for pip, such as .venv/bin/pip
set -eu
folder=$(dirname "$0")
"$@" install --no-deps --requirement "$folder/torch.txt"
requires=$("$@" --verbose show torch | sed -n 's/^Requires: //p') # --quiet alone would show nothing
case $requires in
    *nvidia-cudnn-cu13*)
        "$@" install --no-deps --require-hashes --requirement "$folder/cuda.lock" ;;
    *nvidia-*) # another CUDA's build: only torch itself states what it needs
        "$@" install --requirement "$folder/torch.txt" ;;
esac
