// The trigger for the events of many.bpf.c and latency.bpf.c: a thread takes this name.
#ifndef TRIGGER_H
#define TRIGGER_H

// The name, and the same eight bytes as a number.
#define TRIGGER "measure"
#define TRIGGER_WORD 0x006572757361656dull

#endif
