// The measured event; all sides of a comparison read the same records. It has FIELDS
// members, by default 5; 1, 20 and 60 show the cost per member.
#ifndef SIGNAL_H
#define SIGNAL_H

#ifndef FIELDS
#define FIELDS 5
#endif

// The members after pid, each in a macro of its kind; comm, if present, is the last.
#define FIVE(PID, SIG, RET, COMM, n) COMM(comm##n) PID(pid##n) PID(tpid##n) SIG(sig##n) RET(ret##n)
#if FIELDS == 1
#define MEMBERS(PID, SIG, RET, COMM, LAST)
#elif FIELDS == 5
#define MEMBERS(PID, SIG, RET, COMM, LAST) PID(tpid) SIG(sig) RET(ret) LAST(comm)
#elif FIELDS == 20
// clang-format off
#define MEMBERS(PID, SIG, RET, COMM, LAST) \
    PID(tpid) SIG(sig) RET(ret) \
    FIVE(PID, SIG, RET, COMM, 1) FIVE(PID, SIG, RET, COMM, 2) FIVE(PID, SIG, RET, COMM, 3) \
    LAST(comm)
#elif FIELDS == 60
#define MEMBERS(PID, SIG, RET, COMM, LAST) \
    PID(tpid) SIG(sig) RET(ret) \
    FIVE(PID, SIG, RET, COMM, 1) FIVE(PID, SIG, RET, COMM, 2) FIVE(PID, SIG, RET, COMM, 3) \
    FIVE(PID, SIG, RET, COMM, 4) FIVE(PID, SIG, RET, COMM, 5) FIVE(PID, SIG, RET, COMM, 6) \
    FIVE(PID, SIG, RET, COMM, 7) FIVE(PID, SIG, RET, COMM, 8) FIVE(PID, SIG, RET, COMM, 9) \
    FIVE(PID, SIG, RET, COMM, 10) FIVE(PID, SIG, RET, COMM, 11) \
    LAST(comm)
// clang-format on
#endif

#define UNSIGNED(name) unsigned int name;
#define SIGNED(name) int name;
#define NAME(name) char name[16];

struct signal {
    unsigned int pid;
    MEMBERS(UNSIGNED, SIGNED, SIGNED, NAME, NAME)
};

#define EVENTS_PER_RUN 1000

#endif
