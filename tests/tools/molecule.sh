#!/usr/bin/env bash
# All scenarios of molecule: the operators first, which is on a cluster without them, then the whole site and beside it the roles one after
# the other, in namespaces of their own. Every line begins with the name of its scenario.
set -euo pipefail
cd "$(dirname "$0")/../.."

scenario() {
  set -o pipefail
  molecule reset -s "$1" >/dev/null # else it takes an older cluster's preparation for this one's
  molecule test -s "$1" 2>&1 | sed --unbuffered "s/^/$1: /"
}
export -f scenario

scenario operators
others=$(cd molecule && for folder in */; do echo "${folder%/}"; done | grep -vx operators)
xargs --max-procs=2 --replace bash -c 'scenario {}' <<<"$others"
