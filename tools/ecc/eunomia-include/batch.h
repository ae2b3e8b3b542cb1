// The records that `process_events` gets.
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

// The head of a record. The data follow, at a multiple of 8 bytes, and behind them the key.
struct ewasm_record {
    uint32_t size;    // from this record to the next
    uint32_t len;     // bytes of data
    uint32_t key_len; // bytes of the key; 0 if it is no entry of a map
    int32_t cpu;      // of a perf buffer; else -1
};

#define ewasm_for_each_record(record, records, len)                                                          \
    for (record = (struct ewasm_record *)(records); (char *)record < (char *)(records) + (len);              \
         record = (struct ewasm_record *)((char *)record + record->size))

// The event, or the value of the map's entry.
static inline void *ewasm_record_data(struct ewasm_record *record) {
    return record + 1;
}

// The key of the map's entry.
static inline void *ewasm_record_key(struct ewasm_record *record) {
    return (char *)(record + 1) + (record->len + 7) / 8 * 8;
}

// Keeps the event from the host; `len` is not to be used any more.
static inline void ewasm_record_drop(struct ewasm_record *record) {
    record->len = UINT32_MAX;
}

#endif
