#!/usr/bin/env bash
# ansible-test sanity without docker, on a copy of what users get (ruff and pytest look after the tests):
# ansible-test refuses a linked collection.
# Arguments go to ansible-test (for example: --test validate-modules).
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=$PWD/.venv/bin
root=$PWD/.ansible/test/ansible_collections
copy=$root/private_ai/model_monitoring
mkdir -p "$copy"
ln -sfn "$PWD/.ansible/collections/ansible_collections/kubernetes" "$root/kubernetes"

# Results and caches in tests/output stay, everything else is replaced.
find "$copy" -mindepth 1 -maxdepth 1 ! -name tests -exec rm -rf {} +
find "$copy/tests" -mindepth 1 -maxdepth 1 ! -name output -exec rm -rf {} + 2>/dev/null || true
list=(git ls-files -z --cached --others --exclude-standard --)
{ "${list[@]}" . ':!tests' && "${list[@]}" tests/config.yml tests/sanity; } |
  while IFS= read -r -d '' file; do [ ! -f "$file" ] || printf '%s\0' "$file"; done |
  tar --create --null --files-from=- | tar --extract --directory "$copy"

# ansible-test makes its virtual environments with a downloaded get-pip; ensurepip does the same without network.
export HOME=$PWD/.ansible/test/home
mkdir -p "$HOME/.ansible/test/cache"
for version in 23_1_2 24_2 25_2; do
  cat > "$HOME/.ansible/test/cache/get_pip_$version.py" <<'PY'
import ensurepip

ensurepip.bootstrap()
PY
done

# Real interpreters first: version manager shims confuse ansible-test.
python=$("$bin/python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
export PATH=$bin:${python%/*}:/usr/local/bin:/usr/bin:/bin
cd "$copy"
# A repository of its own: else ansible-test finds the outer one, which ignores this folder, and tests nothing.
git init --quiet
log=$PWD/tests/output/sanity.log
mkdir -p "${log%/*}"
ansible-test sanity --local --python "$version" --skip-test pslint "$@" 2>&1 | tee "$log"
if grep -q 'All targets skipped' "$log"; then
  echo "sanity: ansible-test saw no file" >&2
  exit 1
fi
