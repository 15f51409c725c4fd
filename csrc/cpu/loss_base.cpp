#include "loss_kernels.inc"

const LossKernels kLossKernelsBase = {fold, gradient};
