/* What a MIL text declares at its border: the parameters of its function and the values it returns. Read without
 * judging the rest of the program, so that a back end whose compiler answers only yes or no knows its ports. Any bytes
 * are safe. */
#ifndef ANETRAIN_SIGNATURE_H
#define ANETRAIN_SIGNATURE_H

#include "ane.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  ane_port *inputs, *outputs; /* device order: names ascending in ASCII; layouts filled */
  size_t input_count, output_count;
} ane_signature;

/* ANE_COMPILE_FAILED with line and column when the text has no single function with typed parameters and results. */
ane_status ane_signature_read(const char *mil, size_t bytes, ane_signature *signature, ane_error *error);
void ane_signature_free(ane_signature *signature);

/* Fills bytes, row_stride and plane_stride from dtype and shape: rows padded to 64 bytes, planes and batches dense.
 * False when the dtype is unknown or the size does not fit. */
bool ane_port_layout(ane_port *port);

#ifdef __cplusplus
}
#endif
#endif
