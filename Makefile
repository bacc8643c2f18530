# Entry points for people and CI; the work is done by cargo, by the lab itself, and by .ci/.
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help run test test-slow bench soak fuzz setup

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r t w; do printf 'make %-10s %s\n' "$$t" "$$w"; done

run: ## build the lab and show it: one case on Linux 5.10, which has the bug, and on 6.1
	@.ci/setup build
	@$(CARGO) build --release
	@.ci/setup cases $(TARGET)/release/lab
	@$(TARGET)/release/lab run hostfs-file-dentry -k uml-5.10,uml-6.1

test: ## format, lints, all tests, and the cases with their twins (real boots)
	@.ci/setup build test
	@.ci/test

test-slow: ## all kernels from source built from clean, measured and run, and the cases tagged slow
	@.ci/setup build test slow
	@$(CARGO) build --release
	@.ci/setup cases $(TARGET)/release/lab
	@.ci/test-slow $(TARGET)/release/lab

bench: ## what the lab adds to a bare boot and to a build (needs an idle machine)
	@.ci/setup build test
	$(CARGO) bench -p lab --bench overhead --bench builds

soak: ## a thousand runs of a small case, and docs/reliability.md (SOAK_RUNS, SOAK_PARALLEL; minutes)
	@.ci/setup build
	$(CARGO) bench -p lab --bench soak

fuzz: ## all fuzz targets, FUZZ_SECONDS (60) each; FUZZ_TARGETS names some
	@.ci/setup build fuzz
	@.ci/fuzz

setup: ## install what the build, the tests and the cases need, and look at this host
	@.ci/setup build test
	@$(CARGO) build --release
	@.ci/setup cases $(TARGET)/release/lab
	@$(TARGET)/release/lab doctor
