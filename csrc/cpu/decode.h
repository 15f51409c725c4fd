/* One token through layers of Llama or Qwen3, with the keys and values of the tokens before it: fp16 weights, all else
 * fp32. The same bits on any number of threads. */
#ifndef ANETRAIN_DECODE_H
#define ANETRAIN_DECODE_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* `capacity`: tokens that the cache has room for. RoPE pairs are row i and i + head_dim / 2 of a head. */
typedef struct {
  size_t dim, hidden, heads, kv_heads, head_dim, capacity;
  float norm_eps, residual_scale;
} AnecpuDecodeSizes;

/* Matrices are [rows, columns]; what multiplies the same vector is one matrix. */
typedef struct {
  const float *attention_norm, *ffn_norm; /* [dim] */
  const float *q_norm, *k_norm;           /* [head_dim], or null */
  const uint16_t *qkv;                    /* [(heads + 2 kv_heads) head_dim, dim]: Wq, Wk, Wv */
  const uint16_t *out;                    /* [dim, heads head_dim] */
  const uint16_t *gate_up;                /* [2 hidden, dim]: W1, W3 */
  const uint16_t *down;                   /* [dim, hidden] */
  float *keys;                            /* [kv_heads, head_dim, capacity], turned by RoPE */
  float *values;                          /* [kv_heads, capacity, head_dim] */
} AnecpuDecodeLayer;

/* Floats of scratch that anecpu_decode needs. */
size_t anecpu_decode_scratch(const AnecpuDecodeSizes *sizes);

/* x [dim], the token at `position` < capacity, becomes what the last layer makes of it; its keys and values join those
 * of the positions before. cos, sin [head_dim / 2]: of this position; null without RoPE. */
void anecpu_decode(const AnecpuDecodeSizes *sizes, const AnecpuDecodeLayer *layers, size_t layer_count, size_t position,
                   const float *cos, const float *sin, float *x, float *scratch);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
