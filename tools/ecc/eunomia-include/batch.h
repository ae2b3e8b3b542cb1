// Access to the records that `process_events` gets.
//
//     int process_events(char *records, int len, int count) {
//         struct ewasm_record *record;
//         ewasm_for_each_record(record, records, len) {
//             const struct event *event = ewasm_record_data(record);
//             if (event->ret >= 0)
//                 ewasm_record_drop(record);
//         }
//         return 0;
//     }
#ifndef EWASM_BATCH_H_
#define EWASM_BATCH_H_

#include "native-ewasm.h"

#include <stdint.h>

// Header of a record. The data and then the key follow, each at a multiple of 8 bytes.
struct ewasm_record {
    uint32_t size;    // distance from this record to the next one
    uint32_t len;     // size of the data
    uint32_t key_len; // size of the key; 0 unless the record is a map entry
    int32_t cpu;      // CPU of a perf buffer; otherwise -1
};

#define ewasm_for_each_record(record, records, len)                                                          \
    for (record = (struct ewasm_record *)(records); (char *)record < (char *)(records) + (len);              \
         record = (struct ewasm_record *)((char *)record + record->size))

// Returns the event, or the value of the map entry.
static inline void *ewasm_record_data(struct ewasm_record *record) {
    return record + 1;
}

// Returns the key of the map entry.
static inline void *ewasm_record_key(struct ewasm_record *record) {
    return (char *)(record + 1) + (record->len + 7) / 8 * 8;
}

// Drops the record: the host does not get it. `len` is no longer valid.
static inline void ewasm_record_drop(struct ewasm_record *record) {
    record->len = UINT32_MAX;
}

#endif
