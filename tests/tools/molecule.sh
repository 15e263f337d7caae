#!/usr/bin/env bash
# All scenarios of molecule: the operators first, which is on a cluster without them, then the other roles two at a time, in namespaces of their
# own, and at last the whole site. Not beside them: the monitors of what is there once, MinIO and GPUs, are the same. Every line begins with the
# name of its scenario.
set -euo pipefail
cd "$(dirname "$0")/../.."

scenario() {
  set -o pipefail
  molecule reset -s "$1" >/dev/null 2>&1 # else it takes an older cluster's preparation for this one's
  molecule test -s "$1" 2>&1 | sed --unbuffered "s/^/$1: /"
}
export -f scenario

scenario operators
roles=$(cd molecule && for folder in */; do echo "${folder%/}"; done | grep -vxE 'operators|default')
xargs --max-procs=2 --replace bash -c 'scenario {}' <<<"$roles"
scenario default
