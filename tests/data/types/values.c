// Every kind of value that a C program for BPF can hold; the test names what `value` must read as.
typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned int __u32;
typedef unsigned long long __u64;

enum color { RED, GREEN = 5, BLUE = -3 };
enum big { HUGE_ONE = 0x8000000000000001ULL, TWO = 2 };
enum __attribute__((packed)) tiny { T0, T9 = 9 };

typedef struct {
    int x, y;
} point_t;

struct inner {
    short a;
    char tag[4];
};

struct all {
    _Bool b;
    char c;
    signed char sc;
    unsigned char uc;
    short s;
    unsigned short us;
    int i;
    unsigned int u;
    long long ll;
    __u64 ull;
    __int128 w;
    unsigned __int128 uw;
    float f;
    double d;
    enum color col, unknown;
    enum big big;
    enum tiny tiny;
    struct inner in;
    point_t pts[2];
    int m[2][3];
    char comm[8];
    __u8 mac[6];
    __s8 sb[2];
    union {
        __u32 as_u32;
        __u8 as_bytes[4];
    };
    struct {
        int anon_a;
        struct {
            int anon_b;
        };
    };
    union {
        int ui;
        float uf;
    } un;
    int bf1 : 3;
    unsigned int bf2 : 5;
    unsigned int bf3 : 17;
    unsigned long long bf4 : 40;
    _Bool bf5 : 1;
    enum color bf6 : 4;
    int : 0;
    int bf7 : 31;
    const volatile int cv;
    int __attribute__((btf_type_tag("user"))) * tagged;
    struct fwd *fw;
    void (*fn)(int, void *);
    const char *str;
    int (*parr)[3];
    int *arrp[2];
    char names[2][4];
    struct {
    } empty;
    struct all *self;
};

struct all value = {
    .b = 1,
    .c = 'A',
    .sc = -1,
    .uc = 200,
    .s = -30000,
    .us = 60000,
    .i = -2147483647 - 1,
    .u = 4294967295u,
    .ll = -9223372036854775807LL - 1,
    .ull = 18446744073709551615ULL,
    .w = -5,
    .uw = ((unsigned __int128)1 << 64) + 1,
    .f = 0.5f,
    .d = -0.1,
    .col = BLUE,
    .unknown = (enum color)77,
    .big = HUGE_ONE,
    .tiny = T9,
    .in = {7, {'a', 'b', 'c', 'd'}},
    .pts = {{1, 2}, {3, 4}},
    .m = {{1, 2, 3}, {4, 5, 6}},
    .comm = {'b', 'a', 's', 'h', ' ', '"', 'x', '"'},
    .mac = {1, 2, 3, 4, 5, 255},
    .sb = {-1, 1},
    .as_u32 = 0x04030201,
    .anon_a = -8,
    .anon_b = 9,
    .un = {.uf = 1.0f},
    .bf1 = -3,
    .bf2 = 21,
    .bf3 = 70000,
    .bf4 = 0x123456789aULL,
    .bf5 = 1,
    .bf6 = GREEN,
    .bf7 = -1000000000,
    .cv = 5,
    .fw = (struct fwd *)4096,
    .arrp = {0, (int *)8},
    .names = {"one", {'f', 'o', 'u', 'r'}},
};
