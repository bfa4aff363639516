# falcodrop: build, test, demo. `make` alone lists the targets; V=1 shows every command.
#
# What a target needs it brings itself, once: Debian or Ubuntu packages (scripts/packages), the project's own Node and npm
# (.node/, versions and checksums in scripts/node/package-lock.json) and the npm packages (package-lock.json). The Node of
# the machine is used for nothing but to fetch that one.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

MACHINE := $(shell uname -m)
NODE_ARCH := $(or $(patsubst x86_64,x64,$(filter x86_64,$(MACHINE))),$(patsubst aarch64,arm64,$(filter aarch64,$(MACHINE))))
ifeq ($(NODE_ARCH),)
$(error falcodrop runs on x86_64 and aarch64; this machine is $(MACHINE))
endif

NODE_DIR := $(CURDIR)/.node/node_modules/node-linux-$(NODE_ARCH)
NODE := "$(NODE_DIR)/bin/node"
NPM := $(NODE) "$(CURDIR)/.node/node_modules/npm/bin/npm-cli.js"
export PATH := $(NODE_DIR)/bin:$(PATH)

# node-gyp must take the headers of the Node we brought: a `nodedir` in the user's npm configuration would win over
# --nodedir, this variable wins over both (node-gyp ≥ 12).
export npm_package_config_node_gyp_nodedir := $(NODE_DIR)
export npm_config_update_notifier := false

CLANG ?= clang
LLVM_STRIP ?= llvm-strip
CLANG_FORMAT ?= clang-format
# Kernel headers of the distribution: asm/types.h lies in the multiarch folder on Debian and Ubuntu.
BPF_CFLAGS := -O2 -g -ffile-prefix-map=$(CURDIR)/= -target bpf -mcpu=v2 -Wall -Werror -I/usr/include/$(MACHINE)-linux-gnu

STATE := .make
LOG := $(STATE)/log

BPF_SOURCES := $(wildcard bpf/*.c bpf/*.h)
ADDON_SOURCES := binding.gyp $(wildcard native/*.cc native/*.cpp native/*.h native/*.hpp)
TS_SOURCES := $(shell find src -name '*.ts' -not -name layout.generated.ts 2>/dev/null)

V ?= 0
ifeq ($(V),1)
Q :=
say = @:
# $(call logged,NAME,COMMAND): with V=1 the command's own output.
logged = $(2)
else
Q := @
say = @printf '  %-5s %s\n' $(1) '$(2)'
# $(call logged,NAME,COMMAND): output to .make/log/NAME.log, its end on failure.
logged = @mkdir -p $(LOG); if { $(2); } >$(LOG)/$(1).log 2>&1; then :; else status=$$?; \
	tail -n 40 $(LOG)/$(1).log >&2; echo 'failed; the whole log: $(LOG)/$(1).log' >&2; exit $$status; fi
endif

NODE_STAMP := .node/node_modules/.package-lock.json
NPM_STAMP := node_modules/.package-lock.json
OBJECT := dist/falcodrop.bpf.o
ADDON := build/Release/falcodrop.node
LAYOUT := $(STATE)/layout
BROKER := $(STATE)/kafka/jars

.PHONY: help build test test-nodes sanitize mutants lint format demo fuzz soak bench clean distclean deps

help: ## this list
	@echo 'falcodrop: Falco sees the attack, falcodrop drops the attacker at the NIC driver'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18
	@echo
	@echo '  V=1 shows commands; make test T=test/address runs a part'

build: dist/main.js dist/falcodrop.node $(OBJECT) ## the command, its addon and its XDP program; then ./bin/falcodrop
	@echo 'built: ./bin/falcodrop'

test: build $(STATE)/packages-test $(STATE)/packages-lint $(BROKER) ## types, lint and all tests (kernel tests want root)
	$(Q)$(NODE) scripts/test.ts $(T)

.PHONY: mutants
mutants: build $(STATE)/packages-test $(BROKER) ## plants the bugs of test/mutants, one by one: the tests must catch each (T=… chooses)
	$(Q)$(NODE) scripts/mutants.ts $(T)

lint: $(NPM_STAMP) $(STATE)/packages-lint ## types, Biome (import table included), clang-format
	$(Q)$(NODE) scripts/lint.ts

format: $(NPM_STAMP) $(STATE)/packages-lint ## format all sources in place
	$(call say,FMT,src test scripts bench)
	$(Q)node_modules/.bin/biome check --write --log-level=error .
	$(call say,FMT,bpf native)
	$(Q)find bpf native -name '*.[ch]' -o -name '*.cc' | xargs -r $(CLANG_FORMAT) -i

demo: build $(STATE)/packages-test ## a lab of namespaces: a real Falco alert comes in, the attacker's packets stop
	$(Q)$(NODE) scripts/demo/demo.ts

test-nodes: build $(STATE)/packages-test $(STATE)/packages-lint $(BROKER) ## all tests with Node 22, 24 and 26 (NODES)
	$(Q)$(NODE) scripts/test-nodes.ts $(T)

sanitize: build $(STATE)/packages-test $(STATE)/packages-sanitize ## the addon's tests with ASan and UBSan, and under valgrind
	$(Q)$(NODE) scripts/sanitize.ts

fuzz: build $(STATE)/packages-test $(STATE)/packages-fuzz ## minutes (FUZZ_SECONDS, FUZZ_RUNS, CHAOS_SECONDS) of libFuzzer, random states, hostile bodies and kills
	$(Q)$(NODE) scripts/fuzz.ts

soak: build $(STATE)/packages-test ## an hour (SOAK_SECONDS) of hands, kills, reboots and faults under a flood: nothing lost
	$(Q)$(NODE) scripts/soak/soak.ts

bench: build $(STATE)/packages-test $(BROKER) ## every figure of bench/README.md anew, some minutes (B=bench/lock.ts: one of them)
	$(Q)for each in $(or $(B),bench/verdict.ts bench/lock.ts bench/offenders.ts bench/intake.ts bench/http.ts); do echo "$$each"; $(NODE) $$each; done

.PHONY: bench-sources
bench-sources: build $(STATE)/packages-test ## each source of alerts as a ratio to its bare floor, some minutes (docs/benchmarks.md)
	$(Q)for each in bench/http.ts bench/lines.ts bench/grpc.ts bench/journal.ts $(wildcard bench/kafka.ts); do echo "$$each"; $(NODE) $$each; done

deps: $(STATE)/packages-build $(NODE_STAMP) $(NPM_STAMP) ## what the build needs: packages, Node, npm packages

clean: ## remove what the build made
	$(Q)rm -rf build dist coverage $(LAYOUT) $(LOG)

distclean: clean ## remove also Node and the npm packages (Debian packages stay)
	$(Q)rm -rf node_modules .node $(STATE)

# --- what is brought -------------------------------------------------------------------------------------------------

# Groups are in scripts/packages: build, test, lint. It installs only what is missing.
$(STATE)/packages-%: scripts/packages
	$(Q)mkdir -p $(LOG)
	$(Q)scripts/packages $* $(LOG)/packages.log
	@touch $@

# The tests' own Kafka broker: jars from Maven Central, by versions in the pom, checksums verified (-C).
$(BROKER): scripts/broker/pom.xml | $(STATE)/packages-test
	$(call say,MVN,$@ (a Kafka broker for the tests))
	$(Q)rm -rf $(STATE)/kafka
	$(call logged,kafka,mvn --quiet --batch-mode --no-transfer-progress -C -f scripts/broker/pom.xml \
	  -Dmaven.repo.local="$(CURDIR)/$(STATE)/kafka/repository" \
	  org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies -DoutputDirectory="$(CURDIR)/$@.new")
	$(Q)rm -rf $(STATE)/kafka/repository && mv $@.new $@ && touch $@

$(NODE_STAMP): scripts/node/package.json scripts/node/package-lock.json
	$(Q)command -v npm >/dev/null || scripts/packages npm
	$(call say,NODE,.node/ (Node and npm of our own))
	$(Q)mkdir -p .node && cp scripts/node/package.json scripts/node/package-lock.json .node/
	$(call logged,node,cd .node && npm ci --no-audit --no-fund --ignore-scripts)
	@$(NODE) -e 0 || { echo 'The Node of .node does not run here (it needs glibc 2.28 or newer).' >&2; exit 1; }
	@touch $@

$(NPM_STAMP): package.json package-lock.json | $(NODE_STAMP)
	$(call say,NPM,node_modules/)
	$(call logged,npm,$(NPM) ci --no-audit --no-fund)
	@touch $@

# --- what is built ---------------------------------------------------------------------------------------------------

# Debug sections go, BTF stays: the layout is read from it and the kernel wants it.
$(OBJECT): $(BPF_SOURCES) Makefile | $(STATE)/packages-build
	$(call say,BPF,$(@F))
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c bpf/falcodrop.bpf.c -o $@.new
	$(Q)$(LLVM_STRIP) -g $@.new
	$(Q)mv $@.new $@

# A make of its own inside: ours hands it nothing. Compiler warnings are shown, the rest of the log is not.
$(ADDON): $(ADDON_SOURCES) $(NPM_STAMP) | $(STATE)/packages-build
	$(call say,CXX,$(@F))
	$(call logged,addon,env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS \
	  $(NODE) node_modules/node-gyp/bin/node-gyp.js configure build --release --jobs max --nodedir="$(NODE_DIR)")
	@if [ -f $(LOG)/addon.log ]; then grep -A6 'warning:' $(LOG)/addon.log >&2 || true; fi
	@touch $@

# Renamed into place: a daemon that runs has the old file mapped.
dist/falcodrop.node: $(ADDON)
	$(Q)mkdir -p $(@D)
	$(Q)cp $< $@.new && mv $@.new $@

# src/kernel/layout.generated.ts is committed; it is made anew from the object's BTF, and a test compares.
$(LAYOUT): $(OBJECT) $(ADDON) scripts/layout.ts
	$(call say,GEN,src/kernel/layout.generated.ts)
	$(Q)$(NODE) scripts/layout.ts $(OBJECT)
	@mkdir -p $(STATE) && touch $@

dist/main.js: $(TS_SOURCES) $(LAYOUT) scripts/bundle.mjs package.json $(NPM_STAMP)
	$(call say,JS,$(@F))
	$(Q)$(NODE) scripts/bundle.mjs
	@touch $@
