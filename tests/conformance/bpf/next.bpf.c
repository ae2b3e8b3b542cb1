// The second version of calls.bpf.c: its events have one member more, on_exit is new, and on_return is gone.
#define NEXT
#include "calls.bpf.c"
