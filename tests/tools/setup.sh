#!/usr/bin/env bash
# Prepares a checkout: a virtual environment from the lock file, the collections that ours depends on (taken
# out of PyPI's `ansible` bundle, so that no Galaxy server is needed) and the link that makes this checkout
# a collection. A second run with unchanged inputs does nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

bundle="ansible==12.3.0"
wanted="kubernetes/core"
state=.venv/.prepared
key=$(cat requirements-dev.txt tests/tools/setup.sh | sha256sum | cut -d' ' -f1)
[ -f "$state" ] && [ "$(cat "$state")" = "$key" ] && exit 0

python=""
for candidate in python3.11 python3.12 python3.13 python3; do
  if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
    python=$("$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))')
    break
  fi
done
if [ -z "$python" ]; then
  echo "setup: no Python 3.11 to 3.13 with venv found. Cure on Debian or Ubuntu: apt-get install python3 python3-venv" >&2
  exit 1
fi

echo "setup: virtual environment .venv with $("$python" --version)"
rm -rf .venv
"$python" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt

echo "setup: collections $wanted from $bundle"
collections=.ansible/collections/ansible_collections
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "$bundle"
for name in $wanted; do
  rm -rf "${collections:?}/$name"
  mkdir -p "$collections/${name%/*}"
  .venv/bin/python - "$work" "$name" "$collections" <<'PY'
import pathlib
import sys
import zipfile

work, name, target = sys.argv[1:]
(wheel,) = pathlib.Path(work).glob("*.whl")
prefix = f"ansible_collections/{name}/"
with zipfile.ZipFile(wheel) as bundle:
    members = [member for member in bundle.namelist() if member.startswith(prefix)]
    if not members:
        sys.exit(f"setup: {wheel.name} holds no {prefix}")
    bundle.extractall(pathlib.Path(target).parent, members)
PY
done
mkdir -p "$collections/private_ai"
ln -sfn "$PWD" "$collections/private_ai/model_monitoring"
echo "$key" > "$state"
