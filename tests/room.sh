#!/bin/sh
# Says so when a build will not fit on the disk, rather than fail in the middle. Usage: room.sh GIB
set -eu
cd "$(dirname "$0")/.."

wanted=$(($1 * 1024 * 1024))
mkdir -p target
built=$(du -sk target | cut -f 1)
free=$(df -Pk target | awk 'NR == 2 { print $4 }')
if [ $((built + free)) -lt "$wanted" ]; then
    echo "this takes at least $1 GiB of disk in $PWD/target; $((free / 1024 / 1024)) GiB are free: make room first" >&2
    exit 1
fi
