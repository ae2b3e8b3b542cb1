// cJSON: what it reads and prints, that its lists are consistent, and that no input causes a memory error.
#include "check.h"

#include <math.h>

// Every allocation of cJSON.c is counted, and the one numbered `fail_at` fails.
static long live, made, fail_at = -1;

static void *counted(void *block) {
    live += block != NULL;
    return block;
}

static void *test_malloc(size_t size) {
    return made++ == fail_at ? NULL : counted(malloc(size));
}

static void *test_calloc(size_t count, size_t size) {
    return made++ == fail_at ? NULL : counted(calloc(count, size));
}

static void *test_realloc(void *block, size_t size) {
    return made++ == fail_at ? NULL : realloc(block, size);
}

static void test_free(void *block) {
    live -= block != NULL;
    free(block);
}

#define malloc test_malloc
#define calloc test_calloc
#define realloc test_realloc
#define free test_free
#include "cJSON/cJSON.c"
#undef malloc
#undef calloc
#undef realloc
#undef free

// Each item is linked to its neighbours, and the first one to the last.
static void check_links(const cJSON *parent) {
    const cJSON *last = NULL, *item;
    cJSON_ArrayForEach(item, parent) {
        CHECK(last ? item->prev == last : item == parent->child);
        check_links(item);
        last = item;
    }
    CHECK(!parent->child || parent->child->prev == last);
}

static void check_prints(const cJSON *item, const char *expected) {
    char *text = cJSON_PrintUnformatted(item);
    if (!text || strcmp(text, expected) != 0) {
        fprintf(stderr, "%s instead of %s\n", text ? text : "nothing", expected);
        exit(1);
    }
    cJSON_free(text);
}

static void check_reads(const char *text, const char *expected) {
    cJSON *item = cJSON_Parse(text);
    if (!item)
        fprintf(stderr, "not read: %s\n", text);
    CHECK(item);
    check_links(item);
    check_prints(item, expected);
    cJSON_Delete(item);
}

static void test_reading(void) {
    const char *same[] = {
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1.5",
        "\"\"",
        "[]",
        "{}",
        "[1,[2,[]],{}]",
        "{\"a\":1,\"b\":[true,null],\"c\":{\"d\":\"e\"}}",
        "2147483647",
        "-2147483648",
        "2147483648",
        "18446744073709551615",
        "-9223372036854775808",
        "0.1",
        "1e+100",
        "\"\xc3\xa9\"",
        "123456789012345678901234567890",
    };
    const char *others[][2] = {
        {" \t\r\n[ 1 , 2 ] ", "[1,2]"},
        {"1E2", "100"},
        {"1e400", "null"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\""},
        {"\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"", "\"A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"\"\\u0001\\u001f\\u000b\\u007f\"", "\"\\u0001\\u001f\\u000b\x7f\""},
        {"{\"a\":1,\"a\":2}", "{\"a\":1,\"a\":2}"},
        {"1 2", "1"},
    };
    for (size_t i = 0; i < COUNT(same); i++)
        check_reads(same[i], same[i]);
    for (size_t i = 0; i < COUNT(others); i++)
        check_reads(others[i][0], others[i][1]);
}

static void test_refusing(void) {
    const char *texts[] = {
        "",
        " ",
        "nul",
        "tru",
        "+1",
        "01x",
        ".5",
        "1.",
        "1e",
        "1e+",
        "-",
        "--1",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,]",
        "[1 2]",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":}",
        "{\"a\":1",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "{\"a\" 1}",
        "\"",
        "\"\\\"",
        "\"\\",
        "\"\\u\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\x\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"\n\"",
        "\"\x01\"",
        "NaN",
        "Infinity",
        "0x10",
        "'a'",
        "[\"a\":1]",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        const char *end;
        cJSON *item = cJSON_ParseWithOpts(texts[i], &end, 1);
        if (item)
            fprintf(stderr, "read: %s\n", texts[i]);
        CHECK(!item);
        CHECK(end >= texts[i] && end <= texts[i] + strlen(texts[i]));
        CHECK(cJSON_GetErrorPtr() == end);
    }
    CHECK(!cJSON_Parse(NULL));
    CHECK(!cJSON_ParseWithOpts("1 2", NULL, 1));
}

static void test_numbers(void) {
    cJSON *big = cJSON_Parse("18446744073709551615");
    CHECK(big->valueint == 2147483647 && big->valuedouble == 18446744073709551616.0);
    CHECK(cJSON_SetNumberValue(big, 7) == 7 && big->valueint == 7);
    check_prints(big, "7");
    cJSON_Delete(big);

    big = cJSON_Parse("[1234567890123456789]");
    big->child->valuedouble = 2.5; // as programs do that change members by themselves
    check_prints(big, "[2.5]");
    cJSON_Delete(big);

    double numbers[] = {0.1, 1.0 / 3, 1e15, 4294967295.0, -1.5e-7, 9007199254740991.0};
    for (size_t i = 0; i < COUNT(numbers); i++) {
        cJSON *item = cJSON_CreateNumber(numbers[i]);
        char *text = cJSON_Print(item);
        CHECK(strtod(text, NULL) == numbers[i]);
        cJSON_free(text);
        cJSON_Delete(item);
    }
    cJSON *nan = cJSON_CreateNumber(NAN);
    CHECK(nan->valueint == 0);
    check_prints(nan, "null");
    cJSON_Delete(nan);
    CHECK(isnan(cJSON_GetNumberValue(NULL)));
}

static void test_looking(void) {
    cJSON *object = cJSON_Parse("{\"Sig\":2,\"list\":[10,20],\"s\":\"x\",\"t\":true}");
    CHECK(cJSON_GetObjectItem(object, "sig")->valueint == 2);
    CHECK(!cJSON_GetObjectItemCaseSensitive(object, "sig"));
    CHECK(cJSON_HasObjectItem(object, "Sig") && !cJSON_HasObjectItem(object, "no"));
    CHECK(cJSON_GetArraySize(object) == 4 && cJSON_GetArraySize(NULL) == 0);
    cJSON *list = cJSON_GetObjectItem(object, "list");
    CHECK(cJSON_GetArrayItem(list, 1)->valueint == 20);
    CHECK(!cJSON_GetArrayItem(list, 2) && !cJSON_GetArrayItem(list, -1) && !cJSON_GetArrayItem(NULL, 0));
    CHECK(strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(object, "s")), "x") == 0);
    CHECK(!cJSON_GetStringValue(list) && !cJSON_GetStringValue(NULL));
    CHECK(cJSON_IsTrue(cJSON_GetObjectItem(object, "t")) && cJSON_IsBool(cJSON_GetObjectItem(object, "t")));
    CHECK(!cJSON_GetObjectItem(list, "a") && !cJSON_GetObjectItem(NULL, "a") &&
          !cJSON_GetObjectItem(object, NULL));
    CHECK(!cJSON_IsNull(NULL) && !cJSON_IsInvalid(NULL) && !cJSON_IsObject(NULL));
    cJSON_Delete(object);
    cJSON_Delete(NULL);
}

static void test_changing(void) {
    cJSON *object = cJSON_CreateObject();
    CHECK(cJSON_AddNumberToObject(object, "a", 1) && cJSON_AddStringToObject(object, "b", "two"));
    CHECK(cJSON_AddNullToObject(object, "c") && cJSON_AddBoolToObject(object, "d", 1));
    CHECK(cJSON_AddTrueToObject(object, "e") && cJSON_AddFalseToObject(object, "f"));
    cJSON *list = cJSON_AddArrayToObject(object, "g");
    CHECK(cJSON_AddItemToArray(list, cJSON_CreateNumber(1)) && cJSON_AddObjectToObject(object, "h"));
    check_links(object);
    check_prints(object,
                 "{\"a\":1,\"b\":\"two\",\"c\":null,\"d\":true,\"e\":true,\"f\":false,\"g\":[1],\"h\":{}}");

    // Replaces and deletes the first item, the last item, and one between them.
    CHECK(cJSON_ReplaceItemInObject(object, "A", cJSON_CreateNumber(2)));
    CHECK(cJSON_ReplaceItemInObjectCaseSensitive(object, "h", cJSON_CreateString("last")));
    CHECK(cJSON_ReplaceItemInArray(list, 0, cJSON_CreateNumber(3)));
    check_links(object);
    cJSON_DeleteItemFromObject(object, "C");
    cJSON_DeleteItemFromObjectCaseSensitive(object, "f");
    cJSON_DeleteItemFromObjectCaseSensitive(object, "A");
    cJSON_DeleteItemFromObject(object, "d");
    check_links(object);
    check_prints(object, "{\"b\":\"two\",\"e\":true,\"g\":[3],\"h\":\"last\"}");
    CHECK(strcmp(cJSON_SetValuestring(cJSON_GetObjectItem(object, "b"), "three"), "three") == 0);
    CHECK(!cJSON_SetValuestring(list, "x"));

    cJSON *first = cJSON_DetachItemFromArray(object, 0);
    cJSON *last = cJSON_DetachItemFromObject(object, "h");
    check_links(object);
    CHECK(first && last && !first->next && !last->prev);
    CHECK(cJSON_AddItemToObject(object, "again", first) && cJSON_AddItemToArray(list, last));
    cJSON_DeleteItemFromArray(list, 0);
    check_links(object);
    check_prints(object, "{\"e\":true,\"g\":[\"last\"],\"again\":\"three\"}");

    cJSON *copy = cJSON_Duplicate(object, 1), *flat = cJSON_Duplicate(object, 0);
    check_links(copy);
    check_prints(copy, "{\"e\":true,\"g\":[\"last\"],\"again\":\"three\"}");
    check_prints(flat, "{}");
    cJSON_Delete(copy);
    cJSON_Delete(flat);

    // A change that fails leaves the tree as it was.
    cJSON *number = cJSON_CreateNumber(1);
    CHECK(!cJSON_AddItemToArray(number, object) && !cJSON_AddItemToObject(list, "a", number));
    CHECK(!cJSON_AddItemToArray(list, NULL) && !cJSON_AddItemToArray(list, list));
    CHECK(!cJSON_AddItemToObject(object, NULL, number) && !cJSON_AddItemToObject(NULL, "a", number));
    CHECK(!cJSON_ReplaceItemInObject(object, "none", number) && !cJSON_ReplaceItemInArray(list, 9, number));
    CHECK(!cJSON_DetachItemFromArray(list, 9) && !cJSON_DetachItemViaPointer(NULL, number));
    CHECK(!cJSON_AddNumberToObject(NULL, "a", 1) && !cJSON_CreateString(NULL) && !cJSON_Duplicate(NULL, 1));
    cJSON_Delete(number);
    cJSON_Delete(object);
}

static void test_printing_into_a_buffer(void) {
    const char *text = "{\"a\":[1,\"x\\ny\"],\"b\":1.25}";
    cJSON *item = cJSON_Parse(text);
    int size = (int)strlen(text) + 1;
    for (int room = 0; room <= size + 2; room++) {
        char *buffer = (char *)malloc((size_t)room + 1);
        memset(buffer, '#', (size_t)room + 1);
        int fits = cJSON_PrintPreallocated(item, buffer, room, 0);
        CHECK(fits == (room >= size));
        CHECK(buffer[room] == '#' && (room == 0 || strcmp(buffer, fits ? text : "") == 0));
        free(buffer);
    }
    CHECK(!cJSON_PrintPreallocated(item, NULL, 10, 0) && !cJSON_PrintPreallocated(NULL, (char[4]){0}, 4, 0));
    char *formatted = cJSON_Print(item);
    CHECK(strcmp(formatted, "{\n\t\"a\": [\n\t\t1,\n\t\t\"x\\ny\"\n\t],\n\t\"b\": 1.25\n}") == 0);
    cJSON_free(formatted);
    char *buffered = cJSON_PrintBuffered(item, 1, 0);
    CHECK(strcmp(buffered, text) == 0);
    cJSON_free(buffered);
    cJSON_Delete(item);
}

static void test_nesting(void) {
    enum { DEEP = 200000 };
    char *text = (char *)malloc(2 * DEEP + 1);
    memset(text, '[', DEEP);
    memset(text + DEEP, ']', DEEP);
    text[2 * DEEP] = '\0';
    CHECK(!cJSON_Parse(text));
    cJSON *allowed = cJSON_ParseWithLength(text + DEEP - CJSON_NESTING_LIMIT, 2 * CJSON_NESTING_LIMIT);
    CHECK(allowed);
    CHECK(!cJSON_ParseWithLength(text + DEEP - CJSON_NESTING_LIMIT - 1, 2 * CJSON_NESTING_LIMIT + 2));
    char *printed = cJSON_PrintUnformatted(allowed);
    CHECK(strlen(printed) == 2 * CJSON_NESTING_LIMIT);
    cJSON_free(printed);
    cJSON_Delete(allowed);
    free(text);

    // Arrays that are closed again do not count towards the limit.
    cJSON *wide = cJSON_Parse(
        "[[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],"
        "[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]]]");
    CHECK(cJSON_GetArraySize(wide) == 35);
    cJSON_Delete(wide);

    cJSON *deep = cJSON_CreateArray();
    for (int i = 0; i < DEEP; i++) {
        cJSON *outer = cJSON_CreateArray();
        cJSON_AddItemToArray(outer, deep);
        deep = outer;
    }
    CHECK(!cJSON_Print(deep) && !cJSON_Duplicate(deep, 1));
    cJSON_Delete(deep);
}

// Reads, copies, changes and prints; any of it may run out of memory.
static void use(const char *text) {
    cJSON *item = cJSON_Parse(text);
    cJSON *copy = cJSON_Duplicate(item, 1);
    cJSON_AddStringToObject(item, "name", "value");
    cJSON *extra = cJSON_CreateArray();
    if (!cJSON_AddItemToObject(item, "extra", extra))
        cJSON_Delete(extra);
    cJSON_free(cJSON_Print(item));
    cJSON_Delete(item);
    cJSON_Delete(copy);
}

static void test_running_out_of_memory(void) {
    const char *text = "{\"a\":[1,\"two\",12345678901234567890],\"b\":{\"c\":\"d\"}}";
    long before = live;
    made = 0;
    use(text);
    long needed = made;
    CHECK(needed > 20);
    for (long at = 0; at < needed; at++) {
        made = 0;
        fail_at = at;
        use(text);
        CHECK(live == before);
    }
    fail_at = -1;
}

static unsigned random_number(void) {
    static unsigned state = 2463534242u;
    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
}

// The text is at the end of its memory, without a NUL, so that a read beyond it is noticed.
static void check_any(const char *text, size_t len) {
    char *bytes = (char *)malloc(len ? len : 1);
    memcpy(bytes, text, len);
    cJSON *item = cJSON_ParseWithLength(bytes, len);
    free(bytes);
    if (!item)
        return;
    check_links(item);
    char *once = cJSON_PrintUnformatted(item);
    cJSON *again = cJSON_Parse(once);
    CHECK(once && again);
    check_prints(again, once);
    cJSON_free(once);
    cJSON_Delete(again);
    cJSON_Delete(item);
}

static void test_anything(void) {
    const char *seeds[] = {
        "{\"pid\":1709490,\"comm\":\"node\\u00e9\\n\",\"list\":[1,-2.5e3,true,false,null,{}],\"o\":{\"\":"
        "\"\"}}",
        "[[[[1,2],[3]],{\"a\":{\"b\":[\"\\ud83d\\ude00\"]}}],18446744073709551615,0.1e-5,\"\\\\\\\"\"]",
    };
    const char letters[] = "{}[]\",:\\u0d8e.-+tfn \x01\xff";
    for (size_t seed = 0; seed < COUNT(seeds); seed++) {
        size_t len = strlen(seeds[seed]);
        for (size_t cut = 0; cut <= len; cut++)
            check_any(seeds[seed], cut);
        for (int round = 0; round < 40000; round++) {
            char text[256];
            memcpy(text, seeds[seed], len);
            for (unsigned change = random_number() % 4; change < 4; change++)
                text[random_number() % len] = random_number() % 3
                                                  ? letters[random_number() % (COUNT(letters) - 1)]
                                                  : (char)random_number();
            check_any(text, len - random_number() % 8);
        }
    }
}

int main(void) {
    test_reading();
    test_refusing();
    test_numbers();
    test_looking();
    test_changing();
    test_printing_into_a_buffer();
    test_nesting();
    test_running_out_of_memory();
    test_anything();
    CHECK(live == 0);
    return 0;
}
