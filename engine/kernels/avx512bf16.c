/* AVX-512 with bfloat16 activations and weights, float sums. */
#include "engine/kernels/bf16.inc"

enum { QUERIES = 12 };
static void product(const struct bw_product *p);

#include "engine/kernels/avx512.inc"

static void product(const struct bw_product *p)
{
    product_by_rows(p);
}

const struct bw_kernels bw_kernels_avx512bf16 = {
    .name = "avx512bf16",
    .activation_bytes = sizeof(activation),
    .ends = &bw_kernels_avx512,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .norm = norm,
    .narrow = narrow,
    .product = product,
    .vectors = vectors,
    .attention_bytes = attention_bytes,
    .attention = attention,
    .spin = spin_vectors,
};
