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
PACKAGES_TEST  := $(PACKAGES_BUILD) python3-pil python3-numpy curl qemu-user nginx-light nodejs npm chromium \
                  fonts-dejavu-core redis-server
PACKAGES_CHECK := $(PACKAGES_BUILD) clang-format

BASE   := $(wildcard base/*.c engine/*.c engine/kernels/*.c image/*.c api/*.c)
SERVER := $(wildcard server/*.c) server/asset_bytes.S
CLI    := $(wildcard cli/*.c)
FUZZED := $(addprefix server/,allow.c config.c cors.c keys.c listen.c peers.c record.c redis_url.c signature.c trace_context.c)
UNITS  := $(wildcard tests/unit/*.c)
FUZZ   := $(wildcard tests/fuzz/fuzz_*.c)

objects = $(patsubst %,$(BUILD)/%.o,$(basename $(1)))
NODE_MODULES  := tests/node/node_modules/.package-lock.json
UNIT_PROGRAMS := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNITS))
FUZZ_PROGRAMS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ))

.PHONY: all help demo test check asan tsan fuzz container clean install tests \
        packages-build packages-demo packages-test packages-check
.DELETE_ON_ERROR:

all: $(BUILD)/brickworkd $(BUILD)/brickwork

help:
	@echo "make            build build/brickworkd (server) and build/brickwork (command line)"
	@echo "make demo       install what is missing, build, serve, fetch pictures into demo/"
	@echo "make test       install what is missing, build, run every test"
	@echo "make check      format, warnings as errors, headers, dependencies, sizes"
	@echo "make asan tsan  build with sanitizers into build/asan, build/tsan"
	@echo "make fuzz       run every fuzz target for FUZZ_SECONDS (clang) each"
	@echo "make container  build the image and prove what it promises, without a Docker engine (root)"
	@echo "make install    into PREFIX ($(PREFIX))"

demo: packages-demo
	@$(MAKE) --no-print-directory -j2 all
	@$(PYTHON) tools/demo.py $(BUILD)/brickworkd demo

test: packages-test
	@$(MAKE) --no-print-directory -j2 all tests asan tsan $(NODE_MODULES)
	@$(PYTHON) tests/run.py $(BUILD)

check: packages-check
	@$(PYTHON) tools/check.py
	@$(MAKE) --no-print-directory -j2 BUILD=$(BUILD)/check WERROR=-Werror all tests
	@echo "check: ok"

asan:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan CFLAGS="-O1 -g -fno-omit-frame-pointer" \
	    SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all" all tests

tsan:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan CFLAGS="-O1 -g" SANITIZE=-fsanitize=thread all tests

FUZZ_SECONDS ?= 60
fuzz: $(BUILD)/generated/openapi.json
	@tools/install.sh clang libclang-rt-14-dev
	@tests/fuzz/run.sh $(BUILD)/libfuzzer $(FUZZ_SECONDS) "$(BASE) $(FUZZED)" "$(LDLIBS)"

container:
	@deploy/container.sh $(BUILD)/container

tests: $(UNIT_PROGRAMS) $(FUZZ_PROGRAMS) $(BUILD)/fault.so

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

$(BUILD)/brickworkd: $(call objects,$(BASE) $(SERVER))
	@echo "  link $@"; $(LINK) -o $@ $^ $(LDLIBS)

$(BUILD)/brickwork: $(call objects,$(BASE) $(CLI))
	@echo "  link $@"; $(LINK) -o $@ $^ $(LDLIBS)

# Unit tests may look into the server's modules, which are everything but its main().
$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(call objects,$(BASE) $(filter-out server/main.c,$(SERVER)) \
                 cli/options.c)
	@mkdir -p $(@D)
	@echo "  link $@"; $(LINK) -o $@ $^ $(LDLIBS)

$(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/driver.o \
                 $(call objects,$(BASE) $(FUZZED))
	@mkdir -p $(@D)
	@echo "  link $@"; $(LINK) -o $@ $^ $(LDLIBS)

# What the tests in JavaScript need; npm writes the file that marks it as done.
$(NODE_MODULES): tests/node/package-lock.json
	@echo "  npm  $(@D)"; cd tests/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

# Preloaded by a test to make an encoder fail.
$(BUILD)/fault.so: tests/http/fault.c
	@mkdir -p $(@D)
	@echo "  link $@"; $(CC) -std=c11 -O2 -fPIC -shared -o $@ $<

# The only files with instruction set flags: what they hold runs after the CPU was asked.
AVX512 := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
$(BUILD)/engine/kernels/avx2.o: ISA := -mavx2 -mfma
$(BUILD)/engine/kernels/avx512.o: ISA := $(AVX512)
$(BUILD)/engine/kernels/avx512bf16.o: ISA := $(AVX512) -mavx512bf16
$(BUILD)/engine/kernels/avx512vnni.o: ISA := $(AVX512) -mavx512bf16 -mavx512vnni
$(BUILD)/engine/kernels/amx.o: ISA := $(AVX512) -mavx512bf16 -mamx-tile -mamx-bf16

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
