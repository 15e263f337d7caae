.PHONY: setup demo test lint unit sanity artifact integration lab-test site-test faults molecule bench-waits bench-collector lab-build lab-up lab-down clean rules dashboards screenshots
LAB = PYTHONPATH=tests/lab .venv/bin/python -m lab
CONTROL_PLANE = PYTHONPATH=$(CURDIR)/.ansible/collections:$(CURDIR)/tests/lab KUBECONFIG=$(CURDIR)/.lab/control-plane/kubeconfig
FULL = set -a && . $(CURDIR)/.lab/full/minio.env && export KUBECONFIG=$(CURDIR)/.lab/full/kubeconfig PATH=$(CURDIR)/.venv/bin:$$PATH &&

setup: ; @tests/tools/setup.sh
dashboards: setup ; @.venv/bin/python -m dashboards
screenshots: lab-up ; @$(FULL) PYTHONPATH=$(CURDIR)/.ansible/collections python -m dashboards.plots
demo: lab-up ; @$(FULL) ansible-playbook site.yml -i inventories/lab
# tests/integration/test_dashboard_probe.py runs by hand until it waits for Grafana's cache of data sources.
# lab-test compares the machine before and after, which a lab beside it disturbs: it comes back when it tells the two apart.
test: lint unit rules artifact sanity integration molecule site-test
lint: export PATH := $(CURDIR)/.venv/bin:$(PATH)
lint: setup ; ruff check . && ruff format --check . && mypy && yamllint -s galaxy.yml meta requirements.yml changelogs && antsibull-changelog lint && ansible-lint && shellcheck tests/tools/*.sh .ci/run
unit: setup ; .venv/bin/pytest -n auto tests/unit
rules: lab-build ; PROMTOOL=$$($(LAB) path promtool) .venv/bin/pytest tests/rules
sanity: setup ; tests/tools/sanity.sh
artifact: setup ; tests/tools/artifact.sh
integration: lab-build ; $(LAB) up control-plane && $(CONTROL_PLANE) MINIO_BINARY=$$($(LAB) path minio) TEMPO_BINARY=$$($(LAB) path tempo) OTELCOL_BINARY=$$($(LAB) path otelcol) PROMETHEUS_BINARY=$$($(LAB) path prometheus) GRAFANA_BINARY=$$($(LAB) path grafana) PUSHGATEWAY_BINARY=$$($(LAB) path pushgateway) .venv/bin/pytest -n 3 --dist loadfile --ignore=tests/integration/test_dashboard_probe.py tests/integration
site-test: lab-up ; $(FULL) pytest -n auto --dist loadgroup tests/site
lab-test: lab-build ; (cd tests/lab/programs/workload && go vet ./... && go test ./...) && PYTHONPATH=$(CURDIR)/.ansible/collections .venv/bin/pytest tests/faults/test_lab.py
faults: lab-up ; $(FULL) PYTHONPATH=$(CURDIR)/.ansible/collections pytest tests/faults
molecule: lab-up ; $(FULL) tests/tools/molecule.sh
bench-waits: lab-build ; $(LAB) up control-plane && $(CONTROL_PLANE) .venv/bin/python tests/bench/waits.py
bench-collector: lab-up ; $(FULL) PYTHONPATH=$(CURDIR)/.ansible/collections:$(CURDIR)/tests/support python tests/bench/collector.py
lab-build: setup ; @$(LAB) prepare && $(LAB) build
lab-up: lab-build ; @$(LAB) up
lab-down: setup ; @$(LAB) down
clean: ; test ! -e .venv || $(LAB) down ; rm -rf .venv .ansible .lab .pytest_cache .ruff_cache .mypy_cache
