/* Rows of a table as the columns of channel-first activations, and their gradients back into the table. */
#ifndef ANETRAIN_EMBEDDING_H
#define ANETRAIN_EMBEDDING_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* The position of the first id outside of [0, limit), ids equal to *ignored left out (NULL: none); `count` if all are
 * inside. */
size_t anecpu_first_outside(const int32_t *ids, size_t count, size_t limit, const int32_t *ignored);

/* out[c, t] = table[ids[t], c] for out [channels, tokens]; strides are distances of rows, in floats. The ids must be
 * inside of the table. */
void anecpu_embedding(const float *table, size_t table_stride, const int32_t *ids, float *out, size_t out_stride,
                      size_t channels, size_t tokens);

/* table[ids[t], c] += alpha * d[c, t], in the order of t: repeated ids give the same bits on any number of threads. */
void anecpu_embedding_scatter(const int32_t *ids, float alpha, const float *d, size_t d_stride, float *table,
                              size_t table_stride, size_t channels, size_t tokens);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
