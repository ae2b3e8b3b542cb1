// A program with options of every kind that prints what it was given.
#include "argparse/argparse.c"

static int failed, pid, bits, called;
static float ratio;
static const char *name = "none";

static const char *const usages[] = {"tool [-h] [-x] FILE...", "tool --version", NULL};

static int on_call(struct argparse *self, const struct argparse_option *option) {
    (void)self;
    called += (int)option->data;
    return 0;
}

int main(int argc, const char **argv) {
    struct argparse_option options[] = {
        OPT_HELP(),
        OPT_GROUP("Filters"),
        OPT_BOOLEAN('x', "failed", &failed, "failed only", NULL, 0, 0),
        OPT_BOOLEAN('k', NULL, NULL, "calls", on_call, 7, 0),
        OPT_BIT('b', "bit", &bits, "a bit", NULL, 4, 0),
        OPT_INTEGER('p', "pid", &pid, "target pid", NULL, 0, 0),
        OPT_GROUP("Others"),
        OPT_FLOAT('r', "ratio", &ratio, "a ratio", NULL, 0, 0),
        OPT_STRING('n', "name", &name, "a name", NULL, 0, 0),
        OPT_BOOLEAN(0, "failed-too", NULL, "long only", NULL, 0, OPT_NONEG),
        OPT_INTEGER(0, "pages", NULL, "a number that nobody wants", NULL, 0, 0),
        OPT_END(),
    };
    int stop = argc > 1 && strcmp(argv[1], "stop") == 0;
    struct argparse argparse;
    argparse_init(&argparse, options, usages, stop ? ARGPARSE_STOP_AT_NON_OPTION : 0);
    argparse_describe(&argparse, "Does things.", "That is all.");
    argc = argparse_parse(&argparse, argc - stop, argv + stop);
    printf("failed=%d pid=%d bits=%d called=%d ratio=%g name=%s", failed, pid, bits, called, ratio, name);
    for (int i = 0; i < argc; i++)
        printf(" [%s]", argv[i + stop]);
    printf("\n");
    return 0;
}
