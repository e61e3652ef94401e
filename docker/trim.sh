#!/bin/sh
# Removes from an environment what a service never loads.
#
# usage: trim.sh ENVIRONMENT
set -eu
cd "$1"/lib/python3*/site-packages
find . -type d -name tests -prune -exec rm -r {} +
# PyTorch's test programs, and headers for extensions.
rm -rf torch/test torch/include torch/bin/test_* torch/bin/*StoreTest torch/bin/protoc*
# Of CUDA: what is linked statically, one GPU's work on several, a second compiler.
rm -rf nvidia/*/lib/*.a nvidia/*/lib/libcusolverMg.* nvidia/*/lib/libnvrtc*.alt.*
if [ -d triton ]; then
    # Its profiler's libraries, and what it has for AMD's GPUs; by this entry it would look for that.
    rm -rf triton/backends/nvidia/lib/cupti triton/backends/amd
    sed -i '/^amd = /d' triton-*.dist-info/entry_points.txt
    strip --strip-debug triton/_C/libtriton.so
fi
