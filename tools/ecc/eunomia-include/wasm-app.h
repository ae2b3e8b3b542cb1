// All that a guest needs but for its entry, which is entry.h. To be included once, for it brings code.
#ifndef EWASM_APP_H_
#define EWASM_APP_H_

#include "argparse/argparse.c"
#include "cJSON/cJSON.c"

#include "helpers.h"

#endif
