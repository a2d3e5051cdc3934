# Brickwork. `make demo` shows it, `make test` proves it, `make help` lists the rest.

BUILD   ?= build
PREFIX  ?= /usr/local
CC      ?= cc
PYTHON  := /usr/bin/python3

# What a user may change comes last. -ffp-contract=off: the compiler must not fuse what the source does not, so
# that results do not depend on its mood. SANITIZE is set by the targets asan and tsan.
CFLAGS ?= -O3 -g
HOUSE  := -std=c11 -D_GNU_SOURCE -I. -I$(BUILD)/generated -fno-math-errno -ffp-contract=off -pthread \
          -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes \
          -Wmissing-prototypes -Wundef -Wvla -Wimplicit-fallthrough $(WERROR)
COMPILE = $(CC) $(HOUSE) $(ISA) $(CPPFLAGS) $(CFLAGS) $(SANITIZE)
LINK    = $(CC) -pthread $(CFLAGS) $(SANITIZE) $(LDFLAGS)
LDLIBS  := -lmicrohttpd -luv -ljansson -lopenblas -ljpeg -lpng -lwebpmux -lwebp -lnettle -lcurl -lhiredis -lm

# Debian packages: to build and run, to show, to test, to check.
PACKAGES_BUILD := gcc make libc6-dev libmicrohttpd-dev libuv1-dev libjansson-dev libopenblas-dev \
                  libjpeg62-turbo-dev libpng-dev libwebp-dev nettle-dev libcurl4-openssl-dev \
                  libhiredis-dev python3 python3-yaml
PACKAGES_DEMO  := $(PACKAGES_BUILD) python3-pil
PACKAGES_TEST  := $(PACKAGES_BUILD) python3-pil python3-numpy curl qemu-user nginx-light redis-server openssl systemd \
                  nodejs npm chromium fonts-dejavu-core python3-torch
PACKAGES_CHECK := $(PACKAGES_BUILD) clang-format
PACKAGES_LINT  := $(PACKAGES_BUILD) clang-tidy cppcheck
PACKAGES_FUZZ  := $(PACKAGES_BUILD) clang libclang-rt-14-dev

BASE   := $(wildcard base/*.c engine/*.c engine/kernels/*.c image/*.c api/*.c)
SERVER := $(wildcard server/*.c) server/asset_bytes.S
CLI    := $(wildcard cli/*.c)
FUZZED := $(addprefix server/,allow.c config.c cors.c framing.c keys.c listen.c peers.c record.c redis_url.c \
                      signature.c supervisor.c trace_context.c)
UNITS  := $(wildcard tests/unit/*.c)
FUZZ   := $(wildcard tests/fuzz/fuzz_*.c)

objects = $(patsubst %,$(BUILD)/%.o,$(basename $(1)))
NODE_MODULES  := tests/node/node_modules/.package-lock.json
UNIT_PROGRAMS := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNITS))
PRELOADED     := $(patsubst tests/http/%.c,$(BUILD)/%.so,$(wildcard tests/http/*.c))
FUZZ_PROGRAMS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ))

.PHONY: all help demo test sanitize coverage check lint asan tsan fuzz fuzz-seeds fuzz-build fuzz-programs container prove-nginx prove-large \
        clean install tests packages-build packages-demo packages-test packages-check \
        packages-lint packages-fuzz
.DELETE_ON_ERROR:

all: $(BUILD)/brickworkd $(BUILD)/brickwork

help:
	@echo "make            build build/brickworkd (server) and build/brickwork (command line)"
	@echo "make demo       install what is missing, build, serve, fetch pictures into demo/"
	@echo "make test       install what is missing, build, run every test"
	@echo "make sanitize   every test with the sanitizers"
	@echo "make coverage   every test, and the lines that none of them runs"
	@echo "make check      format, warnings as errors, headers, dependencies, sizes"
	@echo "make asan tsan  build with sanitizers into build/asan, build/tsan"
	@echo "make fuzz       run every fuzz target (clang) for FUZZ_SECONDS or FUZZ_RUNS each"
	@echo "make lint       clang-tidy and cppcheck"
	@echo "make container  build the image and prove what it promises, without a Docker engine (root)"
	@echo "make prove-nginx  replicas behind nginx restarted, killed, frozen, overloaded: the table"
	@echo "make prove-large  models as large as the published checkpoints, against PyTorch and served: the table"
	@echo "make install    into PREFIX ($(PREFIX))"

demo: packages-demo
	@$(MAKE) --no-print-directory -j2 all
	@$(PYTHON) tools/demo.py $(BUILD)/brickworkd demo

test: packages-test
	@$(MAKE) --no-print-directory -j2 all tests asan tsan $(NODE_MODULES)
	@$(PYTHON) tests/run.py $(BUILD)

# The whole of it with the sanitizers; `make test` does the part that finds most.
sanitize: packages-test
	@$(MAKE) --no-print-directory -j2 asan tsan $(NODE_MODULES)
	@$(PYTHON) tests/run.py $(BUILD) asan tsan

# In counts that threads may share. What a test kills leaves none.
coverage: packages-test
	@tools/install.sh gcovr
	@$(MAKE) --no-print-directory -j2 BUILD=$(BUILD)/coverage CFLAGS="-O1 -g" \
	    SANITIZE="--coverage -fprofile-update=atomic" all tests $(NODE_MODULES)
	@$(PYTHON) tests/run.py $(BUILD)/coverage
	@$(PYTHON) tools/coverage.py $(BUILD)/coverage

check: packages-check
	@$(PYTHON) tools/check.py
	@$(MAKE) --no-print-directory -j2 BUILD=$(BUILD)/check WERROR=-Werror all tests
	@echo "check: ok"

# What .clang-tidy and tools/cppcheck.txt leave standing is to be fixed; both say why they leave out what they do.
# -march: a processor that has what all kernels use.
LINTED := $(wildcard base/*.c engine/*.c engine/kernels/*.c image/*.c api/*.c server/*.c cli/*.c \
                     tests/unit/*.c tests/fuzz/*.c tests/http/*.c)
lint: packages-lint
	@printf '%s\n' $(LINTED) | xargs -P2 -n4 sh -c 'clang-tidy --quiet "$$@" -- -std=c11 -D_GNU_SOURCE -I. \
	    -march=sapphirerapids 2>/dev/null' _
	@cppcheck -j2 -q --std=c11 --enable=warning,portability,performance --inline-suppr --error-exitcode=1 \
	    -D_GNU_SOURCE -I. --library=tools/cppcheck.cfg --suppressions-list=tools/cppcheck.txt $(LINTED)
	@echo "lint: ok"

asan:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan CFLAGS="-O1 -g -fno-omit-frame-pointer" \
	    SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all" all tests

tsan:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan CFLAGS="-O1 -g" SANITIZE=-fsanitize=thread all tests

# Goes on where the last one stopped; after `make clean`, from the seeds. FUZZ_RUNS=10000000, FUZZ_SECONDS=600 or
# both, whichever comes first; FUZZ_TARGETS="request model" for some; FUZZ_WRAP="nice -n 19" is put before each.
# FUZZ_SANITIZE=undefined, in a folder of its own, goes through four times as many inputs in the same time; what those
# teach becomes seeds, and the tests try seeds with both sanitizers.
FUZZ_SECONDS ?= $(if $(FUZZ_RUNS),,60)
fuzz: fuzz-build
	@FUZZ_WRAP="$(FUZZ_WRAP)" $(PYTHON) tests/fuzz/run.py $(FUZZ_BUILD)/fuzz $(if $(FUZZ_RUNS),--runs $(FUZZ_RUNS)) \
	    $(if $(FUZZ_SECONDS),--seconds $(FUZZ_SECONDS)) $(FUZZ_TARGETS)

# What was learnt becomes seeds: the fewest inputs that reach as much.
fuzz-seeds: fuzz-build
	@$(PYTHON) tests/fuzz/run.py $(FUZZ_BUILD)/fuzz --minimise $(FUZZ_TARGETS)

FUZZ_SANITIZE ?= address,undefined
FUZZ_BUILD := $(BUILD)/libfuzzer/$(FUZZ_SANITIZE)
FUZZ_CC    ?= clang
fuzz-build: packages-fuzz
	@$(MAKE) --no-print-directory BUILD=$(FUZZ_BUILD) CC="$(FUZZ_CC)" CFLAGS="-O2 -g -fno-omit-frame-pointer" \
	    SANITIZE="-fsanitize=fuzzer-no-link,$(FUZZ_SANITIZE) -fno-sanitize-recover=all" \
	    FUZZ_ENGINE=-fsanitize=fuzzer fuzz-programs

fuzz-programs: $(FUZZ_PROGRAMS)

container:
	@deploy/container.sh

prove-nginx: packages-test $(BUILD)/brickworkd
	@BRICKWORK_BUILD=$(BUILD) $(PYTHON) tests/deploy/proof.py

# Some minutes, 3 GB of disk, 6 GB of memory.
prove-large: packages-test $(BUILD)/brickworkd $(BUILD)/brickwork
	@BRICKWORK_BUILD=$(BUILD) $(PYTHON) tests/train/large.py

tests: $(UNIT_PROGRAMS) $(FUZZ_PROGRAMS) $(PRELOADED)

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/brickwork/models
	install $(BUILD)/brickworkd $(BUILD)/brickwork $(DESTDIR)$(PREFIX)/bin
	install -m 644 models/* $(DESTDIR)$(PREFIX)/share/brickwork/models
	install -m 644 openapi.yaml LICENSE $(DESTDIR)$(PREFIX)/share/brickwork

clean:
	rm -rf $(BUILD) demo

packages-build:
	@tools/install.sh $(PACKAGES_BUILD)
packages-demo:
	@tools/install.sh $(PACKAGES_DEMO)
packages-test:
	@tools/install.sh $(PACKAGES_TEST)
packages-check:
	@tools/install.sh $(PACKAGES_CHECK)
packages-lint:
	@tools/install.sh $(PACKAGES_LINT)
packages-fuzz:
	@tools/install.sh $(PACKAGES_FUZZ)

$(BUILD)/brickworkd: $(call objects,$(BASE) $(SERVER))
	@echo "  link $@"; $(LINK) -o $@ $^ $(LDLIBS)

$(BUILD)/brickwork: $(call objects,$(BASE) $(CLI))
	@echo "  link $@"; $(LINK) -o $@ $^ $(LDLIBS)

# Unit tests may look into the server's modules, which are everything but its main().
$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(call objects,$(BASE) $(filter-out server/main.c,$(SERVER)) \
                 cli/options.c)
	@mkdir -p $(@D)
	@echo "  link $@"; $(LINK) -o $@ $^ $(LDLIBS)

# Fuzz targets run their own deterministic driver, or with FUZZ_ENGINE set that of libFuzzer, which looks at every
# counter of the program after every input: the archive keeps out of it what the target does not call.
$(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/%.o $(if $(FUZZ_ENGINE),,$(BUILD)/tests/fuzz/driver.o) $(BUILD)/fuzzed.a
	@mkdir -p $(@D)
	@echo "  link $@"; $(LINK) $(FUZZ_ENGINE) -o $@ $^ $(LDLIBS)

$(BUILD)/fuzzed.a: $(call objects,$(BASE) $(FUZZED))
	@echo "  ar   $@"; rm -f $@; ar rc $@ $^

# What the tests in JavaScript need; npm writes the file that marks it as done.
$(NODE_MODULES): tests/node/package-lock.json
	@echo "  npm  $(@D)"; cd tests/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

# Preloaded by tests to make encoders, allocations, clocks and threads fail.
$(PRELOADED): $(BUILD)/%.so: tests/http/%.c
	@mkdir -p $(@D)
	@echo "  link $@"; $(CC) -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra $(WERROR) -fPIC -shared -o $@ $<

# The only files with instruction set flags: what they hold runs after the CPU was asked.
AVX512 := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
$(BUILD)/engine/kernels/avx2.o: ISA := -mavx2 -mfma
$(BUILD)/engine/kernels/avx512.o: ISA := $(AVX512)
$(BUILD)/engine/kernels/avx512bf16.o: ISA := $(AVX512) -mavx512bf16
$(BUILD)/engine/kernels/avx512vnni.o: ISA := $(AVX512) -mavx512bf16 -mavx512vnni
$(BUILD)/engine/kernels/amx.o: ISA := $(AVX512) -mavx512bf16 -mamx-tile -mamx-bf16
$(BUILD)/engine/kernels/amxint8.o: ISA := $(AVX512) -mavx512bf16 -mamx-tile -mamx-int8

# Kernels are pure functions on rows that their caller owns, and would take minutes instead of milliseconds under
# the thread sanitizer; whoever calls them is instrumented.
$(BUILD)/engine/kernels/%.o: override SANITIZE := $(filter-out -fsanitize=thread,$(SANITIZE))

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  cc   $@"; $(COMPILE) -MMD -MP -c -o $@ $<

$(BUILD)/%.o: %.S server/assets.h $(BUILD)/generated/openapi.json $(wildcard web/*)
	@mkdir -p $(@D)
	@echo "  cc   $@"; $(COMPILE) -c -o $@ $<

$(BUILD)/generated/openapi.json: openapi.yaml tools/yaml2json.py
	@mkdir -p $(@D)
	@echo "  json $@"; $(PYTHON) tools/yaml2json.py $< $@

.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
