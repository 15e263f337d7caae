#!/usr/bin/env bash
# Builds the collection, installs the artifact beside its dependencies in a temporary folder and uses it from there,
# so that a file that is missing in the artifact, or should not be in it, fails here and not at a user's.
set -euo pipefail
cd "$(dirname "$0")/../.."

checkout=$PWD
export PATH=$checkout/.venv/bin:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ansible-galaxy collection build --output-path "$work" >/dev/null
artifact=$(echo "$work"/private_ai-model_monitoring-*.tar.gz)
extra=$(tar --list --gzip --file "$artifact" |
  grep -Ev '/$|^(MANIFEST\.json|FILES\.json|LICENSE|README\.md|CHANGELOG\.rst|requirements\.(txt|yml)|site\.yml)$' |
  grep -Ev '^(changelogs|docs|inventories|meta|playbooks|plugins|roles)/|^tests/(config\.yml$|sanity/)' || true)
if [ -n "$extra" ]; then
  printf 'artifact: not for users; name it in build_ignore of galaxy.yml:\n%s\n' "$extra" >&2
  exit 1
fi

mkdir "$work/home" "$work/collections"
unset ANSIBLE_CONFIG
export HOME=$work/home ANSIBLE_COLLECTIONS_PATH=$work/collections ANSIBLE_LOCALHOST_WARNING=false
cd "$work"
ansible-galaxy collection install --no-deps --collections-path "$work/collections" "$artifact" >/dev/null
cp -R "$checkout/.ansible/collections/ansible_collections/kubernetes" "$work/collections/ansible_collections/"

for playbook in "$checkout"/playbooks/*.yml; do
  ansible-playbook --inventory localhost, --syntax-check "private_ai.model_monitoring.$(basename "$playbook" .yml)"
done
for kind in modules:module lookup:lookup; do
  for plugin in "$checkout/plugins/${kind%:*}"/[!_]*.py; do
    ansible-doc --type "${kind#*:}" --json "private_ai.model_monitoring.$(basename "$plugin" .py)" | grep -q '"doc"'
  done
done
for plugin in "$checkout"/plugins/filter/*.yml; do  # a filter's documentation lies beside it
  ansible-doc --type filter --json "private_ai.model_monitoring.$(basename "$plugin" .yml)" | grep -q '"doc"'
done
# The importer sets a collections path of its own; dependencies are found on Python's.
PYTHONPATH=$work/collections python -m galaxy_importer.main "$artifact" >"$work/importer.log" 2>&1 || { cat "$work/importer.log" >&2; exit 1; }
# It mentions every ignore file; ours hold the licence only (docs/development.md).
if grep -E '(WARNING|ERROR):' "$work/importer.log" | grep -v 'Ignore files skip ansible-test sanity tests'; then
  echo "artifact: galaxy-importer has remarks" >&2
  exit 1
fi
echo "artifact: ${artifact##*/}, $(tar --list --gzip --file "$artifact" | grep -vc '/$') files, installs and loads"
