.PHONY: setup test lint unit sanity artifact lab-build clean

setup: ; @tests/tools/setup.sh
lint: export PATH := $(CURDIR)/.venv/bin:$(PATH)
lint: setup ; ruff check . && ruff format --check . && yamllint -s galaxy.yml meta requirements.yml changelogs && antsibull-changelog lint && ansible-lint && shellcheck tests/tools/*.sh .ci/run
unit: setup ; .venv/bin/pytest tests/unit
sanity: setup ; tests/tools/sanity.sh
artifact: setup ; tests/tools/artifact.sh
lab-build: setup ; PYTHONPATH=tests/lab .venv/bin/python -m lab build
test: lint unit artifact sanity
clean: ; rm -rf .venv .ansible .pytest_cache .ruff_cache .mypy_cache
