/* Rotary position embedding from tables, on channel-first arrays: [heads * head_dim, tokens]. */
#ifndef ANETRAIN_ROPE_H
#define ANETRAIN_ROPE_H

#include <stdbool.h>
#include <stddef.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* Rotates pair i of each head by the angle of row i of the tables, [head_dim / 2, tokens]. Pairs are channels i and
 * i + head_dim / 2, or `interleaved`, 2 i and 2 i + 1. `backwards` turns the other way: the derivative. y may be x. */
void anecpu_rope(size_t heads, size_t head_dim, size_t tokens, const float *x, size_t x_step, const float *cos,
                 size_t cos_step, const float *sin, size_t sin_step, bool interleaved, bool backwards, float *y,
                 size_t y_step);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
