// A guest that uses the C library of the host.
#include "package.h"

typedef unsigned long long u64;
typedef unsigned size_t;

int printf(const char *format, ...);
int sprintf(char *to, const char *format, ...);
int snprintf(char *to, size_t room, const char *format, ...);
int puts(const char *text);
void *malloc(size_t len);
void *calloc(size_t count, size_t len);
void *realloc(void *at, size_t len);
void free(void *at);
char *strdup(const char *text);
void *memchr(const void *at, int byte, size_t len);
int memcmp(const void *a, const void *b, size_t len);
void *memcpy(void *to, const void *from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *at, int byte, size_t len);
char *strchr(const char *text, int byte);
int strcmp(const char *a, const char *b);
char *strcpy(char *to, const char *from);
size_t strlen(const char *text);
int strncmp(const char *a, const char *b, size_t len);
int strncasecmp(const char *a, const char *b, size_t len);
char *strncpy(char *to, const char *from, size_t len);
size_t strspn(const char *text, const char *set);
size_t strcspn(const char *text, const char *set);
char *strstr(const char *text, const char *part);
int atoi(const char *text);
long strtol(const char *text, char **end, int base);
unsigned long strtoul(const char *text, char **end, int base);
int isalnum(int c), isalpha(int c), isdigit(int c), isgraph(int c), isprint(int c), isspace(int c),
    isupper(int c), isxdigit(int c), tolower(int c), toupper(int c);
struct timespec {
    long long seconds;
    int nanoseconds;
};
int clock_gettime(int clock, struct timespec *time);

static char room[256];

static void numbers(void) {
    printf("%5d|%-5d|%05d|%+d|% d|%.3d|%hhd|%hd\n", 42, 42, 42, 42, 42, 7, 300, 70000);
    printf("%u|%x|%X|%#x|%o|%lu|%zu|%lld|%llu|%jd\n", -1, 255, 255, 255, 8, 5ul, (size_t)6, -1ll, -1ll, 9ll);
    printf("%f|%.2f|%8.1f|%-8.1f|%e|%g|%G\n", 1.5, 2.345, 3.14159, 2.5, 12345.678, 0.0001, 1e20);
    printf("%c|%5c|%s|%8s|%-8s|%.2s|%%|%p\n", 'x', 'y', "text", "right", "left", "cut", (void *)4096);
    // Invalid formats: huge field widths, and missing arguments.
    printf("%.3f|%300d|%n%k|%\n", 1.0, 5);
}

static void texts(void) {
    printf("strlen %d %d\n", strlen(""), strlen("four"));
    printf("strcmp %d %d %d\n", strcmp("a", "a"), strcmp("a", "b"), strcmp("ab", "a"));
    printf("strncmp %d %d %d\n", strncmp("abc", "abd", 2), strncmp("abc", "abd", 3), strncmp("a", "a", 99));
    printf("strncasecmp %d %d\n", strncasecmp("ABC", "abd", 2), strncasecmp("ABC", "abd", 3));
    printf("memcmp %d %d\n", memcmp("a\0b", "a\0b", 3), memcmp("b", "a", 1));
    const char *text = "hello world";
    printf("strchr %d %d %d\n", strchr(text, 'o') - text, strchr(text, 0) - text, !strchr(text, 'z'));
    printf("memchr %d %d\n", (char *)memchr(text, 'w', 11) - text, !memchr(text, 'd', 5));
    printf("strstr %d %d %d\n", strstr(text, "world") - text, strstr(text, "") - text,
           !strstr(text, "worlds"));
    printf("spans %d %d\n", strspn(text, "leh"), strcspn(text, " "));
    printf("strcpy %s %s\n", strcpy(room, "copied"), strncpy(room + 100, "padded", 3));
    strncpy(room, "ab", 6);
    printf("strncpy %d %d\n", room[2] + room[3] + room[5], room[6]);
    strcpy(room, "123456");
    memmove(room + 2, room, 4);
    printf("memmove %s %s\n", room, (char *)memset(memcpy(room, "xyz", 3), '-', 1));
    printf("sprintf %d %s\n", sprintf(room, "<%d>", 12345), room);
    printf("snprintf %d %s\n", snprintf(room, 4, "<%d>", 12345), room);
}

static void conversions(void) {
    char *end;
    printf("atoi %d %d %d\n", atoi("  -12x"), atoi("+7"), atoi("x"));
    printf("strtol %ld %ld %ld %ld\n", strtol("0x1F", &end, 16), strtol("077", &end, 0),
           strtol("zz", &end, 36), strtol("99999999999", &end, 10));
    const char *text = "  12ab";
    strtol(text, &end, 10);
    printf("end %d", end - text);
    strtol("none", &end, 10);
    printf(" %s", end);
    printf(" %ld %ld\n", strtol("0x", &end, 16), strtol("5", 0, 99));
    printf("strtoul %lu %lu %lu\n", strtoul("4294967295", 0, 10), strtoul("-1", 0, 10),
           strtoul("4294967296", 0, 10));
    // The host's pointers are longer than the guest's: the bytes after the guest's are unchanged.
    unsigned ends[2] = {0, 0x12345678};
    strtol("1", (char **)&ends[0], 10);
    printf("behind %x\n", ends[1]);
    printf("classes %d%d%d%d%d%d%d%d %c%c\n", isalnum('9'), isalpha('9'), isdigit('9'), isgraph(' '),
           isprint(' '), isspace('\v'), isupper('a'), isxdigit('F'), tolower('Q'), toupper('q'));
    // These are not characters, and are far outside of the host's table.
    int far = 0;
    for (int bit = 8; bit < 32; bit++)
        far += isalpha(1u << bit) + isspace(-(1u << bit)) + (toupper(1u << bit) != (int)(1u << bit));
    printf("far %d\n", far);
    struct timespec time = {0, -1};
    printf("clock %d %d %d\n", clock_gettime(1, &time), time.seconds > 0, time.nanoseconds >= 0);
}

static void heap(void) {
    char *a = malloc(100), *b = calloc(10, 10), *c = strdup("twice");
    printf("heap %d %d %s\n", a && b && c && ((unsigned)a | (unsigned)b) % 8 == 0, b[0] + b[99], c);
    char *first = a;
    strcpy(a, "kept");
    a = realloc(a, 100000);
    printf("realloc %s %d\n", a, realloc((void *)12345, 10) == 0);
    free(b);
    free(b);
    free((void *)77);
    printf("again %d\n", malloc(90) == first);
    printf("too much %d %d\n", malloc(1 << 30) == 0, calloc(1 << 17, 1 << 17) == 0);
    // All of the heap can be allocated again, as one block.
    free(a);
    free(first);
    free(c);
    int count = 0;
    void *last = 0;
    for (void *piece; (piece = malloc(65520)); count++) {
        *(void **)piece = last;
        last = piece;
    }
    for (void *next; last; last = next) {
        next = *(void **)last;
        free(last);
    }
    printf("pieces %d %d\n", count > 28, malloc(65520 * count) != 0);
}

__attribute__((export_name("bpf_main"))) int bpf_main(char *args, int len) {
    (void)args, (void)len, (void)package;
    numbers();
    texts();
    conversions();
    heap();
    return 0;
}
