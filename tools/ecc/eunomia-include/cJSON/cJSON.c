// Included as code, so that a module is one source file. Only the first inclusion has an effect.
#ifndef CJSON_C_
#define CJSON_C_

#include "cJSON.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// ---- items

static cJSON *cjson_new(int type) {
    cJSON *item = (cJSON *)calloc(1, sizeof(cJSON));
    if (item)
        item->type = type;
    return item;
}

static char *cjson_copy(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = (char *)malloc(size);
    return copy ? (char *)memcpy(copy, text, size) : NULL;
}

static int cjson_is(const cJSON *item, int type) {
    return item && (item->type & 0xff) == type;
}

static int cjson_is_container(const cJSON *item) {
    return cjson_is(item, cJSON_Array) || cjson_is(item, cJSON_Object);
}

static int cjson_to_int(double number) {
    if (number >= INT_MAX)
        return INT_MAX;
    if (number > INT_MIN)
        return (int)number;
    return number != number ? 0 : INT_MIN;
}

static void cjson_append(cJSON *parent, cJSON *item) {
    item->next = NULL;
    if (parent->child) {
        item->prev = parent->child->prev;
        parent->child->prev->next = item;
        parent->child->prev = item;
    } else {
        item->prev = item;
        parent->child = item;
    }
}

void cJSON_Delete(cJSON *item) {
    while (item) {
        cJSON *next = item->next;
        // The children are moved to the front of the list, so that no recursion is needed.
        if (item->child) {
            item->child->prev->next = next;
            next = item->child;
        }
        free(item->valuestring);
        free(item->string);
        free(item->digits);
        free(item);
        item = next;
    }
}

void *cJSON_malloc(size_t size) {
    return malloc(size);
}

void cJSON_free(void *object) {
    free(object);
}

// ---- parsing

struct cjson_reader {
    const char *next;
    const char *end;
    int depth;
};

static const char *cjson_error = "";

static cJSON *cjson_read_value(struct cjson_reader *reader);

// Returns the next byte, NUL at the end.
static char cjson_peek(const struct cjson_reader *reader) {
    return reader->next < reader->end ? *reader->next : '\0';
}

static char cjson_skip_space(struct cjson_reader *reader) {
    while (reader->next < reader->end && strchr(" \t\n\r", *reader->next) && *reader->next)
        reader->next++;
    return cjson_peek(reader);
}

static int cjson_accept(struct cjson_reader *reader, const char *word) {
    size_t len = strlen(word);
    if ((size_t)(reader->end - reader->next) < len || memcmp(reader->next, word, len) != 0)
        return 0;
    reader->next += len;
    return 1;
}

// Returns the value of four hexadecimal digits, or -1.
static int cjson_read_hex(struct cjson_reader *reader) {
    int value = 0;
    for (int count = 0; count < 4; count++) {
        char digit = cjson_peek(reader);
        const char *digits = "0123456789abcdef";
        const char *place = digit ? strchr(digits, digit >= 'A' && digit <= 'F' ? digit + 32 : digit) : NULL;
        if (!place)
            return -1;
        value = value * 16 + (int)(place - digits);
        reader->next++;
    }
    return value;
}

// Parses the digits after \u and writes the character as UTF-8. Returns NULL if it is not a character that a
// C string can contain.
static char *cjson_read_unicode(struct cjson_reader *reader, char *out) {
    int code = cjson_read_hex(reader);
    if (code >= 0xd800 && code < 0xdc00) {
        int low = cjson_accept(reader, "\\u") ? cjson_read_hex(reader) : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return NULL;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code <= 0 || (code >= 0xdc00 && code < 0xe000)) {
        return NULL;
    }
    if (code < 0x80) {
        *out++ = (char)code;
        return out;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    *out++ = (char)((0xf00 >> (more + 1)) | (code >> (6 * more)));
    while (more-- > 0)
        *out++ = (char)(0x80 | ((code >> (6 * more)) & 0x3f));
    return out;
}

static char *cjson_read_escape(struct cjson_reader *reader, char *out) {
    static const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    char letter = cjson_peek(reader);
    reader->next++;
    if (letter == 'u')
        return cjson_read_unicode(reader, out);
    for (int index = 0; escapes[index]; index += 2) {
        if (escapes[index] == letter) {
            *out = escapes[index + 1];
            return out + 1;
        }
    }
    return NULL;
}

// Parses a string after its first quote.
static char *cjson_read_string(struct cjson_reader *reader) {
    const char *close = ++reader->next;
    while (close < reader->end && *close != '"')
        close += *close == '\\' ? 2 : 1;
    if (close >= reader->end)
        return NULL;
    // No escape sequence is shorter than its character.
    char *text = (char *)malloc((size_t)(close - reader->next) + 1);
    char *out = text;
    while (out && reader->next < close) {
        char byte = *reader->next;
        if ((unsigned char)byte < 0x20)
            break;
        reader->next++;
        if (byte == '\\')
            out = cjson_read_escape(reader, out);
        else
            *out++ = byte;
    }
    if (!out || reader->next != close) {
        free(text);
        return NULL;
    }
    *out = '\0';
    reader->next++;
    return text;
}

static int cjson_skip_digits(struct cjson_reader *reader) {
    const char *start = reader->next;
    while (cjson_peek(reader) >= '0' && cjson_peek(reader) <= '9')
        reader->next++;
    return reader->next > start;
}

static int cjson_skip_number(struct cjson_reader *reader) {
    cjson_accept(reader, "-");
    if (!cjson_accept(reader, "0") && !cjson_skip_digits(reader))
        return 0;
    if (cjson_accept(reader, ".") && !cjson_skip_digits(reader))
        return 0;
    if (cjson_accept(reader, "e") || cjson_accept(reader, "E")) {
        if (!cjson_accept(reader, "+"))
            cjson_accept(reader, "-");
        return cjson_skip_digits(reader);
    }
    return 1;
}

// Number of decimal digits that a double always preserves.
#define CJSON_SAFE_DIGITS 15

static cJSON *cjson_read_number(struct cjson_reader *reader) {
    const char *start = reader->next;
    if (!cjson_skip_number(reader))
        return NULL;
    size_t len = (size_t)(reader->next - start);
    cJSON *item = cjson_new(cJSON_Number);
    char *digits = (char *)malloc(len + 1);
    if (!item || !digits) {
        free(digits);
        cJSON_Delete(item);
        return NULL;
    }
    memcpy(digits, start, len);
    digits[len] = '\0';
    item->valuedouble = strtod(digits, NULL);
    item->valueint = cjson_to_int(item->valuedouble);
    if (len > CJSON_SAFE_DIGITS)
        item->digits = digits;
    else
        free(digits);
    return item;
}

// Parses one item of an array, or one name and item of an object.
static cJSON *cjson_read_item(struct cjson_reader *reader, int named) {
    char *name = NULL;
    if (named) {
        if (cjson_skip_space(reader) != '"' || !(name = cjson_read_string(reader)))
            return NULL;
        cjson_skip_space(reader);
        if (!cjson_accept(reader, ":")) {
            free(name);
            return NULL;
        }
    }
    cJSON *item = cjson_read_value(reader);
    if (item)
        item->string = name;
    else
        free(name);
    return item;
}

static cJSON *cjson_read_container(struct cjson_reader *reader, int type, const char *close) {
    cJSON *container = reader->depth < CJSON_NESTING_LIMIT ? cjson_new(type) : NULL;
    if (!container)
        return NULL;
    reader->depth++;
    reader->next++;
    cjson_skip_space(reader);
    int is_closed = cjson_accept(reader, close);
    while (!is_closed) {
        cJSON *item = cjson_read_item(reader, type == cJSON_Object);
        if (item)
            cjson_append(container, item);
        cjson_skip_space(reader);
        if (!item || (!(is_closed = cjson_accept(reader, close)) && !cjson_accept(reader, ","))) {
            cJSON_Delete(container);
            return NULL;
        }
    }
    reader->depth--;
    return container;
}

static cJSON *cjson_read_text(struct cjson_reader *reader) {
    char *text = cjson_read_string(reader);
    cJSON *item = text ? cjson_new(cJSON_String) : NULL;
    if (item)
        item->valuestring = text;
    else
        free(text);
    return item;
}

static cJSON *cjson_read_value(struct cjson_reader *reader) {
    switch (cjson_skip_space(reader)) {
    case '{':
        return cjson_read_container(reader, cJSON_Object, "}");
    case '[':
        return cjson_read_container(reader, cJSON_Array, "]");
    case '"':
        return cjson_read_text(reader);
    case 't':
        return cjson_accept(reader, "true") ? cJSON_CreateTrue() : NULL;
    case 'f':
        return cjson_accept(reader, "false") ? cJSON_CreateFalse() : NULL;
    case 'n':
        return cjson_accept(reader, "null") ? cJSON_CreateNull() : NULL;
    default:
        return cjson_read_number(reader);
    }
}

cJSON *cJSON_ParseWithLengthOpts(const char *value, size_t buffer_length, const char **return_parse_end,
                                 cJSON_bool require_null_terminated) {
    if (!value)
        return NULL;
    struct cjson_reader reader = {value, value + buffer_length, 0};
    cJSON *item = cjson_read_value(&reader);
    if (item && require_null_terminated) {
        cjson_skip_space(&reader);
        if (reader.next < reader.end && *reader.next != '\0') {
            cJSON_Delete(item);
            item = NULL;
        }
    }
    const char *stop = reader.next < reader.end ? reader.next : reader.end;
    if (!item)
        cjson_error = stop;
    if (return_parse_end)
        *return_parse_end = stop;
    return item;
}

cJSON *cJSON_ParseWithLength(const char *value, size_t buffer_length) {
    return cJSON_ParseWithLengthOpts(value, buffer_length, NULL, 0);
}

cJSON *cJSON_ParseWithOpts(const char *value, const char **return_parse_end,
                           cJSON_bool require_null_terminated) {
    size_t len = value ? strlen(value) : 0;
    return cJSON_ParseWithLengthOpts(value, len, return_parse_end, require_null_terminated);
}

cJSON *cJSON_Parse(const char *value) {
    return cJSON_ParseWithOpts(value, NULL, 0);
}

const char *cJSON_GetErrorPtr(void) {
    return cjson_error;
}

// ---- printing

struct cjson_writer {
    char *text;
    size_t len;
    size_t room;
    int is_fixed;
    int is_formatted;
    int has_failed;
};

static void cjson_write(struct cjson_writer *writer, const char *bytes, size_t len) {
    // One byte is reserved for the NUL.
    if (!writer->has_failed && !writer->is_fixed && writer->room - writer->len <= len) {
        size_t room = (writer->room + len) * 2;
        char *text = (char *)realloc(writer->text, room);
        if (text) {
            writer->text = text;
            writer->room = room;
        }
    }
    if (writer->has_failed || writer->room - writer->len <= len) {
        writer->has_failed = 1;
        return;
    }
    memcpy(writer->text + writer->len, bytes, len);
    writer->len += len;
}

static void cjson_write_text(struct cjson_writer *writer, const char *text) {
    cjson_write(writer, text, strlen(text));
}

static void cjson_write_string(struct cjson_writer *writer, const char *text) {
    static const char letters[] = "btn\0fr";
    cjson_write(writer, "\"", 1);
    while (text && *text) {
        size_t plain = 0;
        while ((unsigned char)text[plain] >= 0x20 && text[plain] != '"' && text[plain] != '\\')
            plain++;
        cjson_write(writer, text, plain);
        text += plain;
        if (!*text)
            break;
        char escape[8];
        if (*text == '"' || *text == '\\')
            snprintf(escape, sizeof(escape), "\\%c", *text);
        else if (*text >= '\b' && *text <= '\r' && letters[*text - '\b'])
            snprintf(escape, sizeof(escape), "\\%c", letters[*text - '\b']);
        else
            snprintf(escape, sizeof(escape), "\\u%04x", (unsigned)*text);
        cjson_write_text(writer, escape);
        text++;
    }
    cjson_write(writer, "\"", 1);
}

static void cjson_write_number(struct cjson_writer *writer, const cJSON *item) {
    char text[32];
    double number = item->valuedouble;
    if (item->digits && strtod(item->digits, NULL) == number) {
        cjson_write_text(writer, item->digits);
        return;
    }
    if (number * 0 != 0) { // infinite, or not a number
        cjson_write_text(writer, "null");
        return;
    }
    if (number == (double)item->valueint) {
        snprintf(text, sizeof(text), "%d", item->valueint);
    } else {
        snprintf(text, sizeof(text), "%.15g", number);
        if (strtod(text, NULL) != number)
            snprintf(text, sizeof(text), "%.17g", number);
    }
    cjson_write_text(writer, text);
}

static void cjson_break_line(struct cjson_writer *writer, int depth) {
    if (!writer->is_formatted)
        return;
    cjson_write(writer, "\n", 1);
    while (depth-- > 0)
        cjson_write(writer, "\t", 1);
}

static void cjson_write_value(struct cjson_writer *writer, const cJSON *item, int depth);

static void cjson_write_container(struct cjson_writer *writer, const cJSON *item, int depth) {
    int is_object = cjson_is(item, cJSON_Object);
    if (depth >= CJSON_NESTING_LIMIT) {
        writer->has_failed = 1;
        return;
    }
    cjson_write(writer, is_object ? "{" : "[", 1);
    for (const cJSON *child = item->child; child; child = child->next) {
        cjson_break_line(writer, depth + 1);
        if (is_object) {
            cjson_write_string(writer, child->string);
            cjson_write(writer, ": ", writer->is_formatted ? 2 : 1);
        }
        cjson_write_value(writer, child, depth + 1);
        if (child->next)
            cjson_write(writer, ",", 1);
    }
    if (item->child)
        cjson_break_line(writer, depth);
    cjson_write(writer, is_object ? "}" : "]", 1);
}

static void cjson_write_value(struct cjson_writer *writer, const cJSON *item, int depth) {
    switch (item->type & 0xff) {
    case cJSON_False:
        cjson_write(writer, "false", 5);
        break;
    case cJSON_True:
        cjson_write(writer, "true", 4);
        break;
    case cJSON_NULL:
        cjson_write(writer, "null", 4);
        break;
    case cJSON_Number:
        cjson_write_number(writer, item);
        break;
    case cJSON_String:
        cjson_write_string(writer, item->valuestring);
        break;
    case cJSON_Array:
    case cJSON_Object:
        cjson_write_container(writer, item, depth);
        break;
    default:
        writer->has_failed = 1;
    }
}

static int cjson_print(struct cjson_writer *writer, const cJSON *item) {
    if (!item || !writer->text || writer->room == 0)
        return 0;
    cjson_write_value(writer, item, 0);
    if (writer->has_failed)
        writer->len = 0;
    writer->text[writer->len] = '\0';
    return !writer->has_failed;
}

char *cJSON_PrintBuffered(const cJSON *item, int prebuffer, cJSON_bool fmt) {
    struct cjson_writer writer = {NULL, 0, prebuffer > 0 ? (size_t)prebuffer : 256, 0, fmt, 0};
    writer.text = (char *)malloc(writer.room);
    if (!cjson_print(&writer, item)) {
        free(writer.text);
        return NULL;
    }
    return writer.text;
}

char *cJSON_Print(const cJSON *item) {
    return cJSON_PrintBuffered(item, 0, 1);
}

char *cJSON_PrintUnformatted(const cJSON *item) {
    return cJSON_PrintBuffered(item, 0, 0);
}

cJSON_bool cJSON_PrintPreallocated(cJSON *item, char *buffer, int length, cJSON_bool format) {
    struct cjson_writer writer = {buffer, 0, length > 0 ? (size_t)length : 0, 1, format, 0};
    return cjson_print(&writer, item);
}

// ---- reading items

int cJSON_GetArraySize(const cJSON *array) {
    int size = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, array) size++;
    return size;
}

cJSON *cJSON_GetArrayItem(const cJSON *array, int index) {
    cJSON *item = array && index >= 0 ? array->child : NULL;
    while (item && index-- > 0)
        item = item->next;
    return item;
}

static cJSON *cjson_find(const cJSON *object, const char *name, int (*compare)(const char *, const char *)) {
    cJSON *item = name && cjson_is(object, cJSON_Object) ? object->child : NULL;
    while (item && (!item->string || compare(item->string, name) != 0))
        item = item->next;
    return item;
}

cJSON *cJSON_GetObjectItem(const cJSON *object, const char *string) {
    return cjson_find(object, string, strcasecmp);
}

cJSON *cJSON_GetObjectItemCaseSensitive(const cJSON *object, const char *string) {
    return cjson_find(object, string, strcmp);
}

cJSON_bool cJSON_HasObjectItem(const cJSON *object, const char *string) {
    return cJSON_GetObjectItem(object, string) != NULL;
}

char *cJSON_GetStringValue(const cJSON *item) {
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

double cJSON_GetNumberValue(const cJSON *item) {
    return cJSON_IsNumber(item) ? item->valuedouble : strtod("nan", NULL);
}

cJSON_bool cJSON_IsInvalid(const cJSON *item) {
    return cjson_is(item, cJSON_Invalid);
}

cJSON_bool cJSON_IsFalse(const cJSON *item) {
    return cjson_is(item, cJSON_False);
}

cJSON_bool cJSON_IsTrue(const cJSON *item) {
    return cjson_is(item, cJSON_True);
}

cJSON_bool cJSON_IsBool(const cJSON *item) {
    return cJSON_IsTrue(item) || cJSON_IsFalse(item);
}

cJSON_bool cJSON_IsNull(const cJSON *item) {
    return cjson_is(item, cJSON_NULL);
}

cJSON_bool cJSON_IsNumber(const cJSON *item) {
    return cjson_is(item, cJSON_Number);
}

cJSON_bool cJSON_IsString(const cJSON *item) {
    return cjson_is(item, cJSON_String);
}

cJSON_bool cJSON_IsArray(const cJSON *item) {
    return cjson_is(item, cJSON_Array);
}

cJSON_bool cJSON_IsObject(const cJSON *item) {
    return cjson_is(item, cJSON_Object);
}

// ---- creating items

cJSON *cJSON_CreateNull(void) {
    return cjson_new(cJSON_NULL);
}

cJSON *cJSON_CreateTrue(void) {
    cJSON *item = cjson_new(cJSON_True);
    if (item)
        item->valueint = 1;
    return item;
}

cJSON *cJSON_CreateFalse(void) {
    return cjson_new(cJSON_False);
}

cJSON *cJSON_CreateBool(cJSON_bool boolean) {
    return boolean ? cJSON_CreateTrue() : cJSON_CreateFalse();
}

cJSON *cJSON_CreateNumber(double num) {
    cJSON *item = cjson_new(cJSON_Number);
    if (item)
        cJSON_SetNumberHelper(item, num);
    return item;
}

cJSON *cJSON_CreateString(const char *string) {
    cJSON *item = string ? cjson_new(cJSON_String) : NULL;
    if (item && !(item->valuestring = cjson_copy(string))) {
        free(item);
        return NULL;
    }
    return item;
}

cJSON *cJSON_CreateArray(void) {
    return cjson_new(cJSON_Array);
}

cJSON *cJSON_CreateObject(void) {
    return cjson_new(cJSON_Object);
}

static int cjson_copy_to(char **copy, const char *text) {
    return !text || (*copy = cjson_copy(text)) != NULL;
}

static cJSON *cjson_duplicate(const cJSON *item, int depth) {
    cJSON *copy = cjson_new(item->type);
    if (!copy)
        return NULL;
    copy->valueint = item->valueint;
    copy->valuedouble = item->valuedouble;
    int is_whole = cjson_copy_to(&copy->valuestring, item->valuestring) &&
                   cjson_copy_to(&copy->string, item->string) && cjson_copy_to(&copy->digits, item->digits) &&
                   depth <= CJSON_NESTING_LIMIT;
    for (const cJSON *child = item->child; child && depth >= 0 && is_whole; child = child->next) {
        cJSON *child_copy = cjson_duplicate(child, depth + 1);
        if (child_copy)
            cjson_append(copy, child_copy);
        else
            is_whole = 0;
    }
    if (!is_whole) {
        cJSON_Delete(copy);
        return NULL;
    }
    return copy;
}

cJSON *cJSON_Duplicate(const cJSON *item, cJSON_bool recurse) {
    return item ? cjson_duplicate(item, recurse ? 0 : -1) : NULL;
}

// ---- changing items

cJSON_bool cJSON_AddItemToArray(cJSON *array, cJSON *item) {
    if (!cjson_is_container(array) || !item || array == item)
        return 0;
    cjson_append(array, item);
    return 1;
}

// Sets the name of an item.
static int cjson_name(cJSON *item, const char *name) {
    char *copy = item && name ? cjson_copy(name) : NULL;
    if (!copy)
        return 0;
    free(item->string);
    item->string = copy;
    return 1;
}

cJSON_bool cJSON_AddItemToObject(cJSON *object, const char *string, cJSON *item) {
    if (!cJSON_IsObject(object) || object == item || !cjson_name(item, string))
        return 0;
    cjson_append(object, item);
    return 1;
}

cJSON *cJSON_DetachItemViaPointer(cJSON *parent, cJSON *item) {
    if (!parent || !item || !parent->child)
        return NULL;
    if (item == parent->child)
        parent->child = item->next;
    else
        item->prev->next = item->next;
    if (item->next)
        item->next->prev = item->prev;
    else if (parent->child)
        parent->child->prev = item->prev;
    item->next = item->prev = NULL;
    return item;
}

cJSON *cJSON_DetachItemFromArray(cJSON *array, int which) {
    return cJSON_DetachItemViaPointer(array, cJSON_GetArrayItem(array, which));
}

cJSON *cJSON_DetachItemFromObject(cJSON *object, const char *string) {
    return cJSON_DetachItemViaPointer(object, cJSON_GetObjectItem(object, string));
}

cJSON *cJSON_DetachItemFromObjectCaseSensitive(cJSON *object, const char *string) {
    return cJSON_DetachItemViaPointer(object, cJSON_GetObjectItemCaseSensitive(object, string));
}

void cJSON_DeleteItemFromArray(cJSON *array, int which) {
    cJSON_Delete(cJSON_DetachItemFromArray(array, which));
}

void cJSON_DeleteItemFromObject(cJSON *object, const char *string) {
    cJSON_Delete(cJSON_DetachItemFromObject(object, string));
}

void cJSON_DeleteItemFromObjectCaseSensitive(cJSON *object, const char *string) {
    cJSON_Delete(cJSON_DetachItemFromObjectCaseSensitive(object, string));
}

cJSON_bool cJSON_ReplaceItemViaPointer(cJSON *parent, cJSON *item, cJSON *replacement) {
    if (!parent || !parent->child || !item || !replacement)
        return 0;
    if (replacement == item)
        return 1;
    replacement->next = item->next;
    replacement->prev = item->prev;
    if (replacement->next)
        replacement->next->prev = replacement;
    else
        parent->child->prev = replacement;
    if (parent->child == item) {
        parent->child = replacement;
        if (!replacement->next)
            replacement->prev = replacement;
    } else {
        replacement->prev->next = replacement;
    }
    item->next = item->prev = NULL;
    cJSON_Delete(item);
    return 1;
}

cJSON_bool cJSON_ReplaceItemInArray(cJSON *array, int which, cJSON *newitem) {
    return cJSON_ReplaceItemViaPointer(array, cJSON_GetArrayItem(array, which), newitem);
}

static int cjson_replace_named(cJSON *object, cJSON *item, const char *name, cJSON *replacement) {
    return item && cjson_name(replacement, name) && cJSON_ReplaceItemViaPointer(object, item, replacement);
}

cJSON_bool cJSON_ReplaceItemInObject(cJSON *object, const char *string, cJSON *newitem) {
    return cjson_replace_named(object, cJSON_GetObjectItem(object, string), string, newitem);
}

cJSON_bool cJSON_ReplaceItemInObjectCaseSensitive(cJSON *object, const char *string, cJSON *newitem) {
    return cjson_replace_named(object, cJSON_GetObjectItemCaseSensitive(object, string), string, newitem);
}

static cJSON *cjson_add(cJSON *object, const char *name, cJSON *item) {
    if (cJSON_AddItemToObject(object, name, item))
        return item;
    cJSON_Delete(item);
    return NULL;
}

cJSON *cJSON_AddNullToObject(cJSON *object, const char *name) {
    return cjson_add(object, name, cJSON_CreateNull());
}

cJSON *cJSON_AddTrueToObject(cJSON *object, const char *name) {
    return cjson_add(object, name, cJSON_CreateTrue());
}

cJSON *cJSON_AddFalseToObject(cJSON *object, const char *name) {
    return cjson_add(object, name, cJSON_CreateFalse());
}

cJSON *cJSON_AddBoolToObject(cJSON *object, const char *name, cJSON_bool boolean) {
    return cjson_add(object, name, cJSON_CreateBool(boolean));
}

cJSON *cJSON_AddNumberToObject(cJSON *object, const char *name, double number) {
    return cjson_add(object, name, cJSON_CreateNumber(number));
}

cJSON *cJSON_AddStringToObject(cJSON *object, const char *name, const char *string) {
    return cjson_add(object, name, cJSON_CreateString(string));
}

cJSON *cJSON_AddObjectToObject(cJSON *object, const char *name) {
    return cjson_add(object, name, cJSON_CreateObject());
}

cJSON *cJSON_AddArrayToObject(cJSON *object, const char *name) {
    return cjson_add(object, name, cJSON_CreateArray());
}

double cJSON_SetNumberHelper(cJSON *object, double number) {
    if (!object)
        return number;
    free(object->digits);
    object->digits = NULL;
    object->valueint = cjson_to_int(number);
    return object->valuedouble = number;
}

char *cJSON_SetValuestring(cJSON *object, const char *valuestring) {
    char *copy = cJSON_IsString(object) && valuestring ? cjson_copy(valuestring) : NULL;
    if (!copy)
        return NULL;
    free(object->valuestring);
    return object->valuestring = copy;
}

#endif
