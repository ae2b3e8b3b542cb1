// Command lines under the names of the argparse library for C, written anew.
//
//     struct argparse_option options[] = {
//         OPT_HELP(),
//         OPT_BOOLEAN('x', "failed", &failed_only, "failed signals only", NULL, 0, 0),
//         OPT_INTEGER('p', "pid", &target_pid, "target pid", NULL, 0, 0),
//         OPT_END(),
//     };
//     struct argparse argparse;
//     argparse_init(&argparse, options, usages, 0);
//     argc = argparse_parse(&argparse, argc, argv);
//
// Understood are -x, -xy, -p5, -p 5, --pid=5, --pid 5, --no-failed, any beginning of a long name that fits
// one option only, and -- before arguments that may look like options. A mistake is said on stderr and ends
// the program with 1.
#ifndef ARGPARSE_H
#define ARGPARSE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct argparse;
struct argparse_option;

// Called when its option was seen, after the value was set.
typedef int argparse_callback(struct argparse *self, const struct argparse_option *option);

enum argparse_flag {
    ARGPARSE_STOP_AT_NON_OPTION = 1 << 0, // what follows the first other argument is left alone
};

enum argparse_option_type {
    ARGPARSE_OPT_END,
    ARGPARSE_OPT_GROUP,   // a heading in the help
    ARGPARSE_OPT_BOOLEAN, // counts in an int, or sets it to 0: --no-NAME
    ARGPARSE_OPT_BIT,     // sets the bits `data` of an int, or clears them: --no-NAME
    ARGPARSE_OPT_INTEGER, // an int; 0x and 0 begin hexadecimal and octal numbers
    ARGPARSE_OPT_FLOAT,   // a float
    ARGPARSE_OPT_STRING,  // a const char *
};

enum argparse_option_flags {
    OPT_NONEG = 1, // there is no --no-NAME
};

struct argparse_option {
    enum argparse_option_type type;
    char short_name;       // 0: none
    const char *long_name; // NULL: none
    void *value;           // where the value goes; may be NULL
    const char *help;
    argparse_callback *callback; // may be NULL
    intptr_t data;               // the bits of ARGPARSE_OPT_BIT, or the callback's own
    int flags;
};

// Private but for `argc`, `argv` and the texts.
struct argparse {
    const struct argparse_option *options;
    const char *const *usages;
    int flags;
    const char *description;
    const char *epilog;
    int argc; // what is still to be read
    const char **argv;
    const char **out; // where arguments that are no options go
    int cpidx;        // how many those are
    const char *optvalue;
};

// Prints the help and exits with 0.
int argparse_help_cb(struct argparse *self, const struct argparse_option *option);

// clang-format off
#define OPT_END()        { ARGPARSE_OPT_END, 0, NULL, NULL, NULL, NULL, 0, 0 }
#define OPT_BOOLEAN(...) { ARGPARSE_OPT_BOOLEAN, __VA_ARGS__ }
#define OPT_BIT(...)     { ARGPARSE_OPT_BIT, __VA_ARGS__ }
#define OPT_INTEGER(...) { ARGPARSE_OPT_INTEGER, __VA_ARGS__ }
#define OPT_FLOAT(...)   { ARGPARSE_OPT_FLOAT, __VA_ARGS__ }
#define OPT_STRING(...)  { ARGPARSE_OPT_STRING, __VA_ARGS__ }
#define OPT_GROUP(h)     { ARGPARSE_OPT_GROUP, 0, NULL, NULL, h, NULL, 0, 0 }
#define OPT_HELP()                                                                                           \
    OPT_BOOLEAN('h', "help", NULL, "show this help message and exit", argparse_help_cb, 0, OPT_NONEG)
// clang-format on

// `options` end with OPT_END, `usages` with NULL; both have to live as long as `self`.
int argparse_init(struct argparse *self, struct argparse_option *options, const char *const *usages,
                  int flags);
// What the help says before and behind the options; either may be NULL.
void argparse_describe(struct argparse *self, const char *description, const char *epilog);
// Reads the options behind argv[0]. What is no option is moved to the front of `argv`, and its number
// returned.
int argparse_parse(struct argparse *self, int argc, const char **argv);
// Prints the help.
void argparse_usage(struct argparse *self);

#ifdef __cplusplus
}
#endif

#endif
