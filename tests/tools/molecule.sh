#!/usr/bin/env bash
# All scenarios of molecule: the operators and the whole site first, then the roles, which have namespaces of their own,
# two at a time, without Grafana, which the lab does not have yet. Every line begins with the name of its scenario.
set -euo pipefail
cd "$(dirname "$0")/../.."

scenario() {
  set -o pipefail
  molecule test -s "$1" 2>&1 | sed --unbuffered "s/^/$1: /"
}
export -f scenario

scenario operators
scenario default
roles=$(cd molecule && for folder in */; do echo "${folder%/}"; done | grep -vxE 'operators|default|grafana')
xargs --max-procs=2 --replace bash -c 'scenario {}' <<<"$roles"
