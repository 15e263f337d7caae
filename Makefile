.PHONY: setup test lint unit lab-build clean

setup: ; @tests/tools/setup.sh
lint: setup ; .venv/bin/ruff check . && .venv/bin/yamllint -s galaxy.yml meta requirements.yml changelogs
unit: setup ; .venv/bin/pytest tests/unit
lab-build: setup ; PYTHONPATH=tests/lab .venv/bin/python -m lab build
test: lint unit
clean: ; rm -rf .venv .ansible .pytest_cache .ruff_cache .mypy_cache
