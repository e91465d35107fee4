# make run    set up and run the main job        make test   set up and run every check
# make setup  .venv with the colo-fsm command    make soak   the long tests
# make bench  the figures, beside their targets  make diagrams  draw what is generated anew
# make performance   the figures, written into docs/performance.md
# make qemus  fetch other versions of QEMU, which the tests then run with as well
# make matrix what works with which version of QEMU, tried and written into docs/qemu-versions.md

PYTHON ?= python3
BIN := .venv/bin
.PHONY: setup run test lint pytest soak bench performance diagrams qemus matrix clean

run: setup
	$(BIN)/colo-fsm demo --rejoin

setup: .venv/setup.done

test: lint pytest

lint: .venv/test.done
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# A test that may not be skipped needs every version of QEMU.
pytest: .venv/test.done $(if $(filter 1,$(COLO_FSM_REQUIRE_ALL)),qemus)
	$(BIN)/pytest -n 2 -m "not soak"

soak: .venv/test.done
	$(BIN)/pytest -n 2 -m soak --ignore=tests/test_simulate_soak.py --ignore=tests/test_soak_service.py --ignore=tests/test_member_simulation.py
	$(BIN)/pytest -m soak -s tests/test_simulate_soak.py tests/test_soak_service.py tests/test_member_simulation.py

# Fetch the other versions of QEMU that the tests run with, into ~/.cache; what is there stays.
qemus: .venv/test.done
	$(BIN)/python tests/qemus.py

matrix: .venv/test.done qemus
	$(BIN)/python tests/matrix.py docs/qemu-versions.md

bench: .venv/test.done
	PYTHONPATH=tests $(BIN)/python -m benchmarks

performance: .venv/test.done
	PYTHONPATH=tests $(BIN)/python -m benchmarks --json docs/performance.json
	PYTHONPATH=tests $(BIN)/python -m benchmarks --write docs/performance.md docs/performance.json

diagrams: .venv/test.done
	$(BIN)/python -m colo_fsm.draw diagrams
	$(BIN)/python -m colo_fsm.check docs diagrams

clean:
	rm -rf .venv build dist *.egg-info

# What the tests need of the system: real QEMU; SPIN and a C compiler for what it writes; etcd, of which they
# start their own: the service that comes with it is ended, unless etcd was here before. Without the right to
# install them their tests are skipped, and say so.
PACKAGES := qemu-system-x86 qemu-utils seabios ipxe-qemu spin gcc libc6-dev debian-archive-keyring etcd-server
PROGRAMS := qemu-system-x86_64 qemu-img spin gcc etcd
.venv/system.done: .venv/made.done Makefile
	@if ! (for each in $(PROGRAMS); do command -v $$each >/dev/null || exit 1; done); then \
	  as=; [ "$$(id -u)" = 0 ] || as="sudo -n"; etcd=$$(command -v etcd); \
	  { $$as apt-get update -q && $$as apt-get install -qy --no-install-recommends $(PACKAGES); } \
	  || echo "the tests with real QEMU, SPIN or etcd will be skipped; for them: apt-get install $(PACKAGES)" >&2; \
	  [ "$$etcd" ] || ! command -v etcd >/dev/null || { $$as service etcd stop; $$as update-rc.d etcd disable; } || :; fi
	@touch $@

# A bare Debian has Python without venv: install that, or say what to type.
.venv/made.done:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  as=; [ "$$(id -u)" = 0 ] || as="sudo -n"; \
	  { $$as apt-get update -q && $$as apt-get install -qy --no-install-recommends python3-venv; } \
	  || { echo "Python's venv is missing: apt-get install python3-venv" >&2; exit 1; }; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/setup.done: .venv/made.done pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check -e '.[cli,draw]'
	@touch $@

.venv/test.done: .venv/setup.done .venv/system.done
	$(BIN)/pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@
