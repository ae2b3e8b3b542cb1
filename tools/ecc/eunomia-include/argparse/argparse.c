// Included as code, so that a module is one source file. Only the first inclusion has an effect.
#ifndef ARGPARSE_C_
#define ARGPARSE_C_

#include "argparse.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Exit code for an invalid command line, as in ecli.
#define ARGPARSE_EXIT_CODE 2

static int argparse_has_value(const struct argparse_option *option) {
    return option->type >= ARGPARSE_OPT_INTEGER;
}

// ---- errors

static void argparse_fail(const char *before, const char *dashes, const char *name, size_t len,
                          const char *after) {
    fprintf(stderr, "error: %s `%s%.*s`%s%s\n", before, dashes, (int)len, name, *after ? " " : "", after);
    exit(ARGPARSE_EXIT_CODE);
}

static void argparse_fail_option(const struct argparse_option *option, const char *reason) {
    if (option->long_name)
        argparse_fail("option", "--", option->long_name, strlen(option->long_name), reason);
    argparse_fail("option", "-", &option->short_name, 1, reason);
}

// ---- values

static int argparse_integer(const struct argparse_option *option, const char *text) {
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 0);
    if (end == text || *end != '\0')
        argparse_fail_option(option, "expects an integer");
    if (errno != 0 || number < INT_MIN || number > INT_MAX)
        argparse_fail_option(option, "expects a number that fits an int");
    return (int)number;
}

static float argparse_float(const struct argparse_option *option, const char *text) {
    char *end;
    float number = strtof(text, &end);
    if (end == text || *end != '\0')
        argparse_fail_option(option, "expects a number");
    return number;
}

// Returns the value of an option: the rest of the same argument, or the next argument.
static const char *argparse_value(struct argparse *self, const struct argparse_option *option) {
    const char *value = self->optvalue;
    self->optvalue = NULL;
    if (!value && self->argc > 1) {
        self->argc--;
        value = *++self->argv;
    }
    if (!value)
        argparse_fail_option(option, "requires a value");
    return value;
}

static void argparse_set(struct argparse *self, const struct argparse_option *option, int is_negated) {
    // The value is consumed even if it is not stored.
    const char *text = argparse_has_value(option) ? argparse_value(self, option) : NULL;
    int *number = (int *)option->value;
    if (!option->value)
        return;
    switch (option->type) {
    case ARGPARSE_OPT_BOOLEAN:
        *number = is_negated ? 0 : *number + 1;
        break;
    case ARGPARSE_OPT_BIT:
        *number = is_negated ? *number & ~(int)option->data : *number | (int)option->data;
        break;
    case ARGPARSE_OPT_INTEGER:
        *number = argparse_integer(option, text);
        break;
    case ARGPARSE_OPT_FLOAT:
        *(float *)option->value = argparse_float(option, text);
        break;
    default:
        *(const char **)option->value = text;
    }
}

static void argparse_take(struct argparse *self, const struct argparse_option *option, int is_negated) {
    argparse_set(self, option, is_negated);
    if (option->callback)
        option->callback(self, option);
}

// ---- options

static void argparse_short(struct argparse *self, const char *letters) {
    while (*letters) {
        const struct argparse_option *option = self->options;
        while (option->type != ARGPARSE_OPT_END && option->short_name != *letters)
            option++;
        if (option->type == ARGPARSE_OPT_END)
            argparse_fail("unknown option", "-", letters, 1, "");
        letters++;
        if (argparse_has_value(option) && *letters) {
            self->optvalue = letters;
            letters = "";
        }
        argparse_take(self, option, 0);
    }
}

// Returns 2 for the name of the option, 1 for a prefix of it, 0 otherwise.
static int argparse_match(const struct argparse_option *option, const char *name, size_t len) {
    if (!option->long_name || len == 0 || strncmp(option->long_name, name, len) != 0)
        return 0;
    return option->long_name[len] ? 1 : 2;
}

// Returns the option with that name, or the only one with that prefix.
static const struct argparse_option *argparse_find(struct argparse *self, const char *name, size_t len) {
    const struct argparse_option *found = NULL;
    for (const struct argparse_option *option = self->options; option->type != ARGPARSE_OPT_END; option++) {
        int match = argparse_match(option, name, len);
        if (match == 2)
            return option;
        if (match == 1 && found)
            argparse_fail("several options begin with", "--", name, len, "");
        if (match == 1)
            found = option;
    }
    return found;
}

static void argparse_long(struct argparse *self, const char *name) {
    size_t len = strcspn(name, "=");
    const struct argparse_option *option = argparse_find(self, name, len);
    int is_negated = 0;
    if (!option && len > 3 && strncmp(name, "no-", 3) == 0) {
        option = argparse_find(self, name + 3, len - 3);
        is_negated = 1;
        if (option && (argparse_has_value(option) || (option->flags & OPT_NONEG)))
            option = NULL;
    }
    if (!option)
        argparse_fail("unknown option", "--", name, len, "");
    if (name[len] == '=') {
        if (!argparse_has_value(option))
            argparse_fail("option", "--", name, len, "takes no value");
        self->optvalue = name + len + 1;
    }
    argparse_take(self, option, is_negated);
}

static void argparse_keep(struct argparse *self) {
    self->out[self->cpidx++] = *self->argv;
}

int argparse_parse(struct argparse *self, int argc, const char **argv) {
    self->out = argv;
    self->cpidx = 0;
    self->optvalue = NULL;
    self->argc = argc > 0 ? argc - 1 : 0;
    self->argv = argv + 1;
    for (; self->argc > 0; self->argc--, self->argv++) {
        const char *text = *self->argv;
        if (strcmp(text, "--") == 0) {
            self->argc--;
            self->argv++;
            break;
        }
        if (text[0] == '-' && text[1] == '-') {
            argparse_long(self, text + 2);
        } else if (text[0] == '-' && text[1]) {
            argparse_short(self, text + 1);
        } else if (self->flags & ARGPARSE_STOP_AT_NON_OPTION) {
            break;
        } else {
            argparse_keep(self);
        }
    }
    for (; self->argc > 0; self->argc--, self->argv++)
        argparse_keep(self);
    return self->cpidx;
}

int argparse_init(struct argparse *self, struct argparse_option *options, const char *const *usages,
                  int flags) {
    memset(self, 0, sizeof(*self));
    self->options = options;
    self->usages = usages;
    self->flags = flags;
    return 0;
}

void argparse_describe(struct argparse *self, const char *description, const char *epilog) {
    self->description = description;
    self->epilog = epilog;
}

// ---- help

// Prints the names and the type of an option. Returns the number of columns.
static int argparse_print_option(const struct argparse_option *option) {
    int width = printf("    ");
    if (option->short_name)
        width += printf("-%c", option->short_name);
    if (option->short_name && option->long_name)
        width += printf(", ");
    if (option->long_name)
        width += printf("--%s", option->long_name);
    const char *kind = option->type == ARGPARSE_OPT_INTEGER  ? "<int>"
                       : option->type == ARGPARSE_OPT_FLOAT  ? "<flt>"
                       : option->type == ARGPARSE_OPT_STRING ? "<str>"
                                                             : "";
    if (*kind)
        width += printf("%s%s", option->long_name ? "=" : " ", kind);
    return width;
}

// Returns the number of columns of the widest option.
static int argparse_width(const struct argparse_option *option) {
    int widest = 0;
    for (; option->type != ARGPARSE_OPT_END; option++) {
        // "    -x, --NAME=<int>"
        int width = 16 + (option->long_name ? (int)strlen(option->long_name) : 0);
        if (option->type != ARGPARSE_OPT_GROUP && width > widest)
            widest = width;
    }
    return widest;
}

static void argparse_print_options(const struct argparse_option *option) {
    int width = argparse_width(option);
    for (; option->type != ARGPARSE_OPT_END; option++) {
        const char *help = option->help ? option->help : "";
        if (option->type == ARGPARSE_OPT_GROUP) {
            printf("\n%s\n", help);
            continue;
        }
        int used = argparse_print_option(option);
        printf("%*s  %s\n", width - used, "", help);
    }
}

void argparse_usage(struct argparse *self) {
    const char *const *usage = self->usages;
    const char *start = "Usage:";
    while (usage && *usage) {
        printf("%s %s\n", start, *usage++);
        start = "   or:";
    }
    if (self->description)
        printf("%s\n", self->description);
    printf("\n");
    argparse_print_options(self->options);
    if (self->epilog)
        printf("%s\n", self->epilog);
}

int argparse_help_cb(struct argparse *self, const struct argparse_option *option) {
    (void)option;
    argparse_usage(self);
    exit(EXIT_SUCCESS);
}

#endif
