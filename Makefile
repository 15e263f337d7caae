.PHONY: setup test lint unit sanity artifact integration lab-build lab-up lab-down clean
LAB = PYTHONPATH=tests/lab .venv/bin/python -m lab

setup: ; @tests/tools/setup.sh
lint: export PATH := $(CURDIR)/.venv/bin:$(PATH)
lint: setup ; ruff check . && ruff format --check . && yamllint -s galaxy.yml meta requirements.yml changelogs && antsibull-changelog lint && ansible-lint && shellcheck tests/tools/*.sh .ci/run
unit: setup ; .venv/bin/pytest tests/unit
sanity: setup ; tests/tools/sanity.sh
artifact: setup ; tests/tools/artifact.sh
integration: lab-up ; PYTHONPATH=$(CURDIR)/.ansible/collections KUBECONFIG=$(CURDIR)/.lab/control-plane/kubeconfig MINIO_BINARY=$$($(LAB) path minio) TEMPO_BINARY=$$($(LAB) path tempo) OTELCOL_BINARY=$$($(LAB) path otelcol) .venv/bin/pytest tests/integration
lab-build: setup ; $(LAB) build etcd kubernetes minio otelcol tempo olm
lab-up: lab-build ; $(LAB) up
lab-down: setup ; $(LAB) down
test: lint unit artifact sanity
clean: lab-down ; rm -rf .venv .ansible .lab .pytest_cache .ruff_cache .mypy_cache
