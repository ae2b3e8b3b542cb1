// A guest that receives events in batches.
#include "eunomia-include/batch.h"
#include "../guest.h"
#include "main.h"

int process_events(char *records, int len, int count) {
    struct ewasm_record *record;
    (void)count;

    ewasm_for_each_record(record, records, len) {
        if (!wanted((const struct signal *)ewasm_record_data(record), record->len))
            ewasm_record_drop(record);
    }
    return 0;
}
