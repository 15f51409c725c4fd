#include "loss_kernels.inc"

const LossKernels kLossKernelsAvx512 = {fold, gradient};
