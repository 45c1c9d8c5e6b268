# `make run` starts a daemon, `make test` runs every check and test; both install what is missing on Debian and Ubuntu.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# s3s 0.17 declares rustc 1.96 and builds on 1.95 (design §3). The only place that says so.
MSRV_FLAG := $(shell rustc --version | awk -F'[. ]' '$$3 < 96 { print "--ignore-rust-version" }')
CARGO := cargo
FLAGS := --locked $(MSRV_FLAG)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
DATA ?= ./data
VENV := .venv

# Each as `command:package`: installed only when the command is missing.
NEED_BUILD := cc:gcc make:make
NEED_TEST := $(NEED_BUILD) curl:curl python3:python3 /usr/bin/aws:awscli rclone:rclone restic:restic s3fs:s3fs \
  node:nodejs npm:npm mkfs.ext4:e2fsprogs losetup:mount fusermount3:fuse3 git:git rsync:rsync sqlite3:sqlite3 \
  setfattr:attr
PYTHON_PACKAGES := tests/clients/requirements.txt
NODE_PACKAGES := tests/clients/node
# What the mount is held to; each is built once.
TOOLS := .tools
POSIX_SUITES := pjdfstest@0.2.2 fsx@0.3.2

define install
	@missing=(); for need in $(1); do \
	  PATH="$$PATH:/usr/sbin:/sbin" command -v "$${need%%:*}" >/dev/null || missing+=("$${need##*:}"); done; \
	if [ "$${#missing[@]}" -gt 0 ]; then echo "installing: $${missing[*]}"; $(SUDO) apt-get update -qq; \
	  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; fi
endef

.PHONY: help
help: ## what there is to make
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## build the daemon and start it with its data in ./data
	$(call install,$(NEED_BUILD))
	@$(CARGO) build $(FLAGS) --workspace
	@exec "$${CARGO_TARGET_DIR:-target}/debug/coffre" serve --data "$(DATA)"

.PHONY: build
build: ## build everything that the tests need
	$(call install,$(NEED_BUILD))
	$(CARGO) test $(FLAGS) --workspace --no-run

.PHONY: setup
setup: ## install the clients that the tests use
	$(call install,$(NEED_TEST))
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { $(SUDO) apt-get update -qq; \
	  $(SUDO) apt-get install -y -qq --no-install-recommends python3-venv >/dev/null; }
	@[ -x $(VENV)/bin/pip ] || python3 -m venv $(VENV)
	@$(VENV)/bin/pip install -q --disable-pip-version-check -r $(PYTHON_PACKAGES)
	@node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))' || { \
	  echo "the AWS SDK for JavaScript needs Node 20 or later; this is $$(node --version)"; exit 1; }
	@cd $(NODE_PACKAGES); [ node_modules/.package-lock.json -nt package-lock.json ] || \
	  npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	@[ -x $(TOOLS)/bin/pjdfstest ] && [ -x $(TOOLS)/bin/fsx ] || \
	  CARGO_TARGET_DIR=$(TOOLS)/target CARGO_PROFILE_DEV_DEBUG=false \
	  $(CARGO) install -q --debug --locked --root $(TOOLS) $(POSIX_SUITES)

.PHONY: check
check: setup ## formatting, lints, documents, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(FLAGS) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc $(FLAGS) --no-deps --workspace --lib
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(CARGO) deny --log-level error check bans licenses sources

.PHONY: test
test: check build ## everything: checks, unit tests, crashes, real clients (under 45 minutes on 2 cores)
	COFFRE_VENV="$(CURDIR)/$(VENV)" $(CARGO) test $(FLAGS) --workspace --no-fail-fast

.PHONY: test-long
test-long: build setup ## the same suites with many more rounds and larger objects (hours)
	COFFRE_VENV="$(CURDIR)/$(VENV)" COFFRE_LONG=1 $(CARGO) test $(FLAGS) --workspace -- --nocapture

# What `make bench` builds (PROFILE=dev takes what `make test` has built), and what it tells both programs.
PROFILE ?= release
BENCH ?= --markdown
OUT = $${CARGO_TARGET_DIR:-target}/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

.PHONY: bench
bench: ## figures of the store and of the S3 door beside a floor (10 minutes; BENCH=--quick: 3)
	$(call install,$(NEED_BUILD))
	$(CARGO) build $(FLAGS) --profile $(PROFILE) --workspace --bins
	$(CARGO) bench $(FLAGS) --profile $(PROFILE) --workspace --bench store -- $(BENCH)
	$(CARGO) bench $(FLAGS) --profile $(PROFILE) --workspace --bench store -- $(BENCH) --fjall durable list delete
	$(OUT)/coffre-load $(BENCH)

.PHONY: bench-mount
bench-mount: ## figures of the mount beside the file system below it (10 minutes; needs root)
	$(call install,$(NEED_BUILD) git:git)
	$(CARGO) build $(FLAGS) --profile $(PROFILE) --workspace --bins
	$(OUT)/coffre-mount-bench $(BENCH)

.PHONY: audit
audit: setup ## known vulnerabilities, by a local copy of the advisory database: make audit DB=DIR
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(CARGO) audit --db "$(DB)" --no-fetch
