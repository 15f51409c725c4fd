/* Proof that a device computes: one tiny program compiled, run and compared. Over ane.h only, so it serves every kind.
 */
#ifndef ANETRAIN_SELFTEST_H
#define ANETRAIN_SELFTEST_H

#include "ane.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Costs one compile. On a wrong value ANE_EVAL_FAILED, with the element, what was expected and what was read. */
ane_status ane_selftest(ane_device *device, ane_error *error);

#ifdef __cplusplus
}
#endif
#endif
