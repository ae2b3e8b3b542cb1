// JSON trees, with the names of the cJSON library: the part of its interface that tools use. Unlike the
// original it accepts exactly the syntax of RFC 8259 and limits nesting, and a number keeps all of its
// digits: 64-bit members of events do not change when an event is parsed and printed. docs/wasm.md lists all
// differences.
#ifndef cJSON__h
#define cJSON__h

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// Types of items; each is a bit.
#define cJSON_Invalid 0
#define cJSON_False (1 << 0)
#define cJSON_True (1 << 1)
#define cJSON_NULL (1 << 2)
#define cJSON_Number (1 << 3)
#define cJSON_String (1 << 4)
#define cJSON_Array (1 << 5)
#define cJSON_Object (1 << 6)

// Maximum nesting of arrays and objects when parsing, printing and copying.
#ifndef CJSON_NESTING_LIMIT
#define CJSON_NESTING_LIMIT 64
#endif

typedef int cJSON_bool;

typedef struct cJSON {
    struct cJSON *next;  // next item of the array or object, or NULL
    struct cJSON *prev;  // previous item; for the first one, the last one
    struct cJSON *child; // first item of an array or object
    int type;
    char *valuestring;  // value of a string
    int valueint;       // value of a number, truncated and limited to the range of int; 1 for true
    double valuedouble; // value of a number
    char *string;       // name of the item within an object
    char *digits;       // private: the text of a number with many digits
} cJSON;

// Parsing. Returns NULL for invalid JSON and when memory is exhausted. Free the result with cJSON_Delete.
// Text after the value is ignored unless `require_null_terminated` is set. `return_parse_end` gets the end of
// the value, or the position of the error, which cJSON_GetErrorPtr returns too.
cJSON *cJSON_Parse(const char *value);
cJSON *cJSON_ParseWithLength(const char *value, size_t buffer_length);
cJSON *cJSON_ParseWithOpts(const char *value, const char **return_parse_end,
                           cJSON_bool require_null_terminated);
cJSON *cJSON_ParseWithLengthOpts(const char *value, size_t buffer_length, const char **return_parse_end,
                                 cJSON_bool require_null_terminated);
const char *cJSON_GetErrorPtr(void);

// Printing. Free the result with cJSON_free. Returns NULL when memory is exhausted or the nesting is too
// deep.
char *cJSON_Print(const cJSON *item);
char *cJSON_PrintUnformatted(const cJSON *item);
char *cJSON_PrintBuffered(const cJSON *item, int prebuffer, cJSON_bool fmt);
// Prints into `length` bytes at `buffer`, including the NUL. Returns 0 if that is too small; the buffer then
// contains an empty string.
cJSON_bool cJSON_PrintPreallocated(cJSON *item, char *buffer, int length, cJSON_bool format);

void cJSON_Delete(cJSON *item);
void *cJSON_malloc(size_t size);
void cJSON_free(void *object);

// Reading items. For NULL and for items of another type these functions return nothing (NULL, 0 or NaN).
// Names in objects are compared case-insensitively, except by the functions named CaseSensitive.
int cJSON_GetArraySize(const cJSON *array);
cJSON *cJSON_GetArrayItem(const cJSON *array, int index);
cJSON *cJSON_GetObjectItem(const cJSON *object, const char *string);
cJSON *cJSON_GetObjectItemCaseSensitive(const cJSON *object, const char *string);
cJSON_bool cJSON_HasObjectItem(const cJSON *object, const char *string);
char *cJSON_GetStringValue(const cJSON *item);
double cJSON_GetNumberValue(const cJSON *item); // NaN if the item is not a number
cJSON_bool cJSON_IsInvalid(const cJSON *item);
cJSON_bool cJSON_IsFalse(const cJSON *item);
cJSON_bool cJSON_IsTrue(const cJSON *item);
cJSON_bool cJSON_IsBool(const cJSON *item);
cJSON_bool cJSON_IsNull(const cJSON *item);
cJSON_bool cJSON_IsNumber(const cJSON *item);
cJSON_bool cJSON_IsString(const cJSON *item);
cJSON_bool cJSON_IsArray(const cJSON *item);
cJSON_bool cJSON_IsObject(const cJSON *item);

// Creating items. Strings are copied.
cJSON *cJSON_CreateNull(void);
cJSON *cJSON_CreateTrue(void);
cJSON *cJSON_CreateFalse(void);
cJSON *cJSON_CreateBool(cJSON_bool boolean);
cJSON *cJSON_CreateNumber(double num);
cJSON *cJSON_CreateString(const char *string);
cJSON *cJSON_CreateArray(void);
cJSON *cJSON_CreateObject(void);
cJSON *cJSON_Duplicate(const cJSON *item, cJSON_bool recurse);

// Changing items. The tree owns an item that is added to it; the caller owns an item that is detached. If the
// result is 0, nothing has changed and the caller still owns the item.
cJSON_bool cJSON_AddItemToArray(cJSON *array, cJSON *item);
cJSON_bool cJSON_AddItemToObject(cJSON *object, const char *string, cJSON *item);
cJSON *cJSON_DetachItemViaPointer(cJSON *parent, cJSON *item);
cJSON *cJSON_DetachItemFromArray(cJSON *array, int which);
cJSON *cJSON_DetachItemFromObject(cJSON *object, const char *string);
cJSON *cJSON_DetachItemFromObjectCaseSensitive(cJSON *object, const char *string);
void cJSON_DeleteItemFromArray(cJSON *array, int which);
void cJSON_DeleteItemFromObject(cJSON *object, const char *string);
void cJSON_DeleteItemFromObjectCaseSensitive(cJSON *object, const char *string);
cJSON_bool cJSON_ReplaceItemViaPointer(cJSON *parent, cJSON *item, cJSON *replacement);
cJSON_bool cJSON_ReplaceItemInArray(cJSON *array, int which, cJSON *newitem);
cJSON_bool cJSON_ReplaceItemInObject(cJSON *object, const char *string, cJSON *newitem);
cJSON_bool cJSON_ReplaceItemInObjectCaseSensitive(cJSON *object, const char *string, cJSON *newitem);

// Creates an item and adds it. Returns it, or NULL on failure.
cJSON *cJSON_AddNullToObject(cJSON *object, const char *name);
cJSON *cJSON_AddTrueToObject(cJSON *object, const char *name);
cJSON *cJSON_AddFalseToObject(cJSON *object, const char *name);
cJSON *cJSON_AddBoolToObject(cJSON *object, const char *name, cJSON_bool boolean);
cJSON *cJSON_AddNumberToObject(cJSON *object, const char *name, double number);
cJSON *cJSON_AddStringToObject(cJSON *object, const char *name, const char *string);
cJSON *cJSON_AddObjectToObject(cJSON *object, const char *name);
cJSON *cJSON_AddArrayToObject(cJSON *object, const char *name);

// Sets the value of a number, or of a string (which is copied).
double cJSON_SetNumberHelper(cJSON *object, double number);
#define cJSON_SetNumberValue(object, number)                                                                 \
    ((object) ? cJSON_SetNumberHelper(object, (double)(number)) : (double)(number))
char *cJSON_SetValuestring(cJSON *object, const char *valuestring);

#define cJSON_ArrayForEach(element, array)                                                                   \
    for (element = (array) ? (array)->child : NULL; element; element = element->next)

#ifdef __cplusplus
}
#endif

#endif
