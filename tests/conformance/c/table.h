// Reads the table of scenarios as lines, see ../README.md. Valid C and C++, for the runners of both.
#ifndef TABLE_H
#define TABLE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_FIELDS 128

// A line of the table: its first word and its fields KEY=VALUE.
typedef struct line {
    char text[8192];
    const char *word;
    const char *fields[MAX_FIELDS];
    size_t count;
} line;

// The members of a step, or with a prefix such as "inside.0." those of a nested step.
typedef struct args {
    const line *in;
    char prefix[64];
} args;

// Copies a string and replaces $pid and $packages.
static inline void substitute(const char *from, const char *packages, char *to, size_t room) {
    size_t at = 0;
    while (*from && at + 1 < room) {
        if (strncmp(from, "$pid", 4) == 0) {
            at += (size_t)snprintf(to + at, room - at, "%d", (int)getpid());
            from += 4;
        } else if (strncmp(from, "$packages", 9) == 0) {
            at += (size_t)snprintf(to + at, room - at, "%s", packages);
            from += 9;
        } else {
            to[at++] = *from++;
        }
    }
    to[at] = 0;
}

// Reads the next line; false at the end of the table.
static inline bool next_line(FILE *table, const char *packages, line *line) {
    char raw[sizeof(line->text)];
    char *rest = NULL;
    if (!fgets(raw, sizeof(raw), table))
        return false;
    raw[strcspn(raw, "\n")] = 0;
    substitute(raw, packages, line->text, sizeof(line->text));
    line->word = strtok_r(line->text, "\t", &rest);
    line->count = 0;
    for (char *field; (field = strtok_r(NULL, "\t", &rest)) && line->count < MAX_FIELDS;)
        line->fields[line->count++] = field;
    return line->word != NULL;
}

// Returns the value of the field whose key printf would format, or NULL.
__attribute__((format(printf, 2, 3))) static inline const char *find(const args *args, const char *key, ...) {
    char name[128];
    va_list list;
    size_t length = (size_t)snprintf(name, sizeof(name), "%s", args->prefix);
    va_start(list, key);
    vsnprintf(name + length, sizeof(name) - length, key, list);
    va_end(list);
    length = strlen(name);
    for (size_t i = 0; i < args->in->count; i++) {
        const char *field = args->in->fields[i];
        if (strncmp(field, name, length) == 0 && field[length] == '=')
            return field + length + 1;
    }
    return NULL;
}

// Returns the string of a field; "" if there is none.
static inline const char *text_of(const args *args, const char *key) {
    const char *value = find(args, "%s", key);
    return value ? value : "";
}

// Returns the number of a field; 0 if there is none.
static inline long long number_of(const args *args, const char *key) {
    return atoll(text_of(args, key));
}

// Decodes a field of hexadecimal digits, at most room bytes, and returns the number of bytes.
static inline size_t bytes_of(const args *args, const char *key, unsigned char *to, size_t room) {
    const char *digits = text_of(args, key);
    size_t count = 0;
    for (; digits[0] && digits[1] && count < room; digits += 2) {
        const char pair[3] = {digits[0], digits[1], 0};
        to[count++] = (unsigned char)strtoul(pair, NULL, 16);
    }
    return count;
}

// Stores the strings of a list, NULL-terminated, and returns their number.
static inline int words_of(const args *args, const char *key, const char **to, int room) {
    int count = 0;
    for (const char *word; count + 1 < room && (word = find(args, "%s.%d", key, count));)
        to[count++] = word;
    to[count] = NULL;
    return count;
}

// Writes bytes as hexadecimal digits.
static inline void to_hex(const void *bytes, size_t count, char *to, size_t room) {
    const unsigned char *from = (const unsigned char *)bytes;
    size_t at = 0;
    to[0] = 0;
    for (size_t i = 0; i < count && at + 3 <= room; i++, at += 2)
        snprintf(to + at, 3, "%02x", from[i]);
}

#endif
