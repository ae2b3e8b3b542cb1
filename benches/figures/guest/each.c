// A guest that receives events one by one, as structs.
#include "../guest.h"
#include "main.h"

int eunomia_event_format(void) {
    return EWASM_EVENT_RAW;
}

int process_event(int ctx, char *e, int str_len) {
    (void)ctx;
    return wanted((const struct signal *)e, (unsigned int)str_len) ? 0 : -1;
}
