// JSON trees under the names of the cJSON library: the part of its interface that tools use, written anew.
// It differs where a guest gains: text is read by the letter of RFC 8259, nesting is limited, and a number
// keeps all of its digits, so that 64-bit members of events survive being read and printed.
#ifndef cJSON__h
#define cJSON__h

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// The type of an item; each is a bit.
#define cJSON_Invalid 0
#define cJSON_False (1 << 0)
#define cJSON_True (1 << 1)
#define cJSON_NULL (1 << 2)
#define cJSON_Number (1 << 3)
#define cJSON_String (1 << 4)
#define cJSON_Array (1 << 5)
#define cJSON_Object (1 << 6)

// Arrays and objects inside each other that are read, printed and copied.
#ifndef CJSON_NESTING_LIMIT
#define CJSON_NESTING_LIMIT 64
#endif

typedef int cJSON_bool;

typedef struct cJSON {
    struct cJSON *next;  // the following item of the array or object; the last has none
    struct cJSON *prev;  // the item before; of the first one, the last
    struct cJSON *child; // the first item of an array or object
    int type;
    char *valuestring;  // of a string
    int valueint;       // of a number: without fraction, within the limits of int; 1 for true
    double valuedouble; // of a number
    char *string;       // the name within an object
    char *digits;       // private: a long number as it was read
} cJSON;

// Reading. The result is NULL for what is no JSON and where memory is short; give it to cJSON_Delete. What
// stands behind the value is ignored unless `require_null_terminated` is set. `return_parse_end` gets where
// the value ended, or where it went wrong, as cJSON_GetErrorPtr does.
cJSON *cJSON_Parse(const char *value);
cJSON *cJSON_ParseWithLength(const char *value, size_t buffer_length);
cJSON *cJSON_ParseWithOpts(const char *value, const char **return_parse_end,
                           cJSON_bool require_null_terminated);
cJSON *cJSON_ParseWithLengthOpts(const char *value, size_t buffer_length, const char **return_parse_end,
                                 cJSON_bool require_null_terminated);
const char *cJSON_GetErrorPtr(void);

// Printing. The text is the caller's; give it to cJSON_free. NULL where memory is short or the nesting too
// deep.
char *cJSON_Print(const cJSON *item);
char *cJSON_PrintUnformatted(const cJSON *item);
char *cJSON_PrintBuffered(const cJSON *item, int prebuffer, cJSON_bool fmt);
// Prints into `length` bytes at `buffer`, NUL included; 0 if that is too little, with an empty text in the
// buffer.
cJSON_bool cJSON_PrintPreallocated(cJSON *item, char *buffer, int length, cJSON_bool format);

void cJSON_Delete(cJSON *item);
void *cJSON_malloc(size_t size);
void cJSON_free(void *object);

// Looking. All of them take NULL and items of another type, and find nothing there. Names of objects are
// compared without regard to case, except by the functions that say so.
int cJSON_GetArraySize(const cJSON *array);
cJSON *cJSON_GetArrayItem(const cJSON *array, int index);
cJSON *cJSON_GetObjectItem(const cJSON *object, const char *string);
cJSON *cJSON_GetObjectItemCaseSensitive(const cJSON *object, const char *string);
cJSON_bool cJSON_HasObjectItem(const cJSON *object, const char *string);
char *cJSON_GetStringValue(const cJSON *item);
double cJSON_GetNumberValue(const cJSON *item); // NaN if it is no number
cJSON_bool cJSON_IsInvalid(const cJSON *item);
cJSON_bool cJSON_IsFalse(const cJSON *item);
cJSON_bool cJSON_IsTrue(const cJSON *item);
cJSON_bool cJSON_IsBool(const cJSON *item);
cJSON_bool cJSON_IsNull(const cJSON *item);
cJSON_bool cJSON_IsNumber(const cJSON *item);
cJSON_bool cJSON_IsString(const cJSON *item);
cJSON_bool cJSON_IsArray(const cJSON *item);
cJSON_bool cJSON_IsObject(const cJSON *item);

// Making. Strings are copied.
cJSON *cJSON_CreateNull(void);
cJSON *cJSON_CreateTrue(void);
cJSON *cJSON_CreateFalse(void);
cJSON *cJSON_CreateBool(cJSON_bool boolean);
cJSON *cJSON_CreateNumber(double num);
cJSON *cJSON_CreateString(const char *string);
cJSON *cJSON_CreateArray(void);
cJSON *cJSON_CreateObject(void);
cJSON *cJSON_Duplicate(const cJSON *item, cJSON_bool recurse);

// Changing. An item that was added belongs to the tree; one that was detached belongs to the caller. Where
// the result is 0, nothing has changed and the item is still the caller's.
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

// Makes an item and adds it; NULL if that failed.
cJSON *cJSON_AddNullToObject(cJSON *object, const char *name);
cJSON *cJSON_AddTrueToObject(cJSON *object, const char *name);
cJSON *cJSON_AddFalseToObject(cJSON *object, const char *name);
cJSON *cJSON_AddBoolToObject(cJSON *object, const char *name, cJSON_bool boolean);
cJSON *cJSON_AddNumberToObject(cJSON *object, const char *name, double number);
cJSON *cJSON_AddStringToObject(cJSON *object, const char *name, const char *string);
cJSON *cJSON_AddObjectToObject(cJSON *object, const char *name);
cJSON *cJSON_AddArrayToObject(cJSON *object, const char *name);

// Sets the value of a number, of a string (copied).
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
