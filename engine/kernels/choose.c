/* The order of the table is the order of preference; everything else is asking the CPU and the
 * kernel. */
#include "engine/kernels/kernels.h"

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct bw_kernels *const tables[] = {&bw_kernels_amx, &bw_kernels_avx512bf16,
                                                  &bw_kernels_avx512, &bw_kernels_avx2,
                                                  &bw_kernels_portable};

enum { TABLE_COUNT = sizeof tables / sizeof *tables };

/* The CPU has AMX with bfloat16 and bytes (CPUID leaf 7, EDX bits 22, 24 and 25), and Linux lets
 * this process use the tile registers. */
static bool has_amx(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    const unsigned needed = 1u << 22 | 1u << 24 | 1u << 25;
    unsigned a, b, c, d = 0;
    bool there = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & needed) == needed;
    return there && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

bool bw_kernels_runs(const struct bw_kernels *kernels)
{
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    bool narrow = avx512 && __builtin_cpu_supports("avx512bf16") &&
                  __builtin_cpu_supports("avx512vnni"); // of fine products
    if (kernels == &bw_kernels_amx)
        return narrow && has_amx();
    if (kernels == &bw_kernels_avx512bf16)
        return narrow;
    if (kernels == &bw_kernels_avx512)
        return avx512;
    return kernels == &bw_kernels_avx2 ? avx2 : true;
}

bool bw_kernels_precision(const char *text, enum bw_precision *precision)
{
    static const char *const names[] = {"auto", "bf16", "f32"};
    for (int i = BW_PRECISION_AUTO; i <= BW_PRECISION_F32; i++) {
        if (strcmp(names[i], text) == 0) {
            *precision = (enum bw_precision)i;
            return true;
        }
    }
    return false;
}

int bw_kernels_choose(enum bw_precision precision, const struct bw_kernels **kernels,
                      struct bw_err *err)
{
    const char *limit = getenv("BRICKWORK_CPU");
    int first = 0;
    while (limit && *limit && first < TABLE_COUNT && strcmp(limit, tables[first]->name))
        first++;
    if (first == TABLE_COUNT)
        return bw_err_set(err, BW_ERANGE,
                          "BRICKWORK_CPU is none of amx, avx512bf16, avx512, avx2, portable");
    for (int i = first; i < TABLE_COUNT; i++) {
        bool narrow = tables[i]->activation_bytes == 2;
        bool wanted = precision == BW_PRECISION_AUTO || (precision == BW_PRECISION_BF16) == narrow;
        if (wanted && bw_kernels_runs(tables[i])) {
            *kernels = tables[i];
            return BW_OK;
        }
    }
    return bw_err_set(err, BW_ERANGE,
                      "no bfloat16 products: this CPU lacks AVX512-BF16, or BRICKWORK_CPU "
                      "rules it out");
}
