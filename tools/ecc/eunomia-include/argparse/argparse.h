// Parses command lines, with the names of the argparse library for C.
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
// Accepts -x, -xy, -p5, -p 5, --pid=5, --pid 5, --no-failed, any unambiguous prefix of a long name, and --
// before arguments that may begin with a dash. An error prints a line to stderr and ends the program with
// exit code 2.
#ifndef ARGPARSE_H
#define ARGPARSE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct argparse;
struct argparse_option;

// Called when the option occurs, after its value has been set.
typedef int argparse_callback(struct argparse *self, const struct argparse_option *option);

enum argparse_flag {
    ARGPARSE_STOP_AT_NON_OPTION = 1 << 0, // stops at the first argument that is not an option
};

enum argparse_option_type {
    ARGPARSE_OPT_END,
    ARGPARSE_OPT_GROUP,   // a heading in the help
    ARGPARSE_OPT_BOOLEAN, // increments an int; --no-NAME sets it to 0
    ARGPARSE_OPT_BIT,     // sets the bits `data` of an int; --no-NAME clears them
    ARGPARSE_OPT_INTEGER, // an int; 0x and 0 begin hexadecimal and octal numbers
    ARGPARSE_OPT_FLOAT,   // a float
    ARGPARSE_OPT_STRING,  // a const char *
};

enum argparse_option_flags {
    OPT_NONEG = 1, // does not accept --no-NAME
};

struct argparse_option {
    enum argparse_option_type type;
    char short_name;       // 0: none
    const char *long_name; // NULL: none
    void *value;           // the variable to set; may be NULL
    const char *help;
    argparse_callback *callback; // may be NULL
    intptr_t data;               // the bits of ARGPARSE_OPT_BIT, or data for the callback
    int flags;
};

// Private except for `argc`, `argv` and the strings.
struct argparse {
    const struct argparse_option *options;
    const char *const *usages;
    int flags;
    const char *description;
    const char *epilog;
    int argc; // number of arguments not yet parsed
    const char **argv;
    const char **out; // list of arguments that are not options
    int cpidx;        // length of that list
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

// Initialises `self`. `options` must end with OPT_END and `usages` with NULL; both must stay valid as long as
// `self` is used.
int argparse_init(struct argparse *self, struct argparse_option *options, const char *const *usages,
                  int flags);
// Sets the text before and after the options in the help; either may be NULL.
void argparse_describe(struct argparse *self, const char *description, const char *epilog);
// Parses the arguments after argv[0]. Moves those that are not options to the front of `argv` and returns
// their number.
int argparse_parse(struct argparse *self, int argc, const char **argv);
// Prints the help.
void argparse_usage(struct argparse *self);

#ifdef __cplusplus
}
#endif

#endif
