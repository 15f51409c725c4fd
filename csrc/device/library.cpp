// What the library says of itself.
#include "ane.h"

const char *ane_version(void) { return ANETRAIN_VERSION; }
