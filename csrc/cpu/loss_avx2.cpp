#include "loss_kernels.inc"

const LossKernels kLossKernelsAvx2 = {fold, gradient};
