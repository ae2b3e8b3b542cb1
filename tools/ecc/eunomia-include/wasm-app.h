// Everything that a guest needs except its main function (entry.h). Include it in one file only, because it
// contains code.
#ifndef EWASM_APP_H_
#define EWASM_APP_H_

#include "argparse/argparse.c"
#include "cJSON/cJSON.c"

#include "helpers.h"

#endif
