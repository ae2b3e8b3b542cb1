// Makes the n-th system call or allocation fail. The functions here override those of the C library, also for
// the library under test and everything that is linked into it.
#ifndef FAIL_H
#define FAIL_H

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum kind { CALL, C_ALLOCATION, RUST_ALLOCATION };

// The function that has to fail, and the number of successful calls before that; negative: nothing fails.
static enum kind failing;
static atomic_long left = -1;
// The call that failed.
static const char *failed;

static inline bool fails(enum kind kind, const char *name, int number) {
    if (kind != failing || left < 0 || left-- > 0)
        return false;
    failed = name;
    errno = number;
    return true;
}

#define REAL(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))
#define FAILS(name, number) fails(CALL, #name, number)

// ---- the kernel
// ------------------------------------------------------------------------------------------------

long syscall(long number, ...) {
    long args[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        args[i] = va_arg(list, long);
    va_end(list);
    // The kernel never refuses to wake a thread that waits for a lock.
    if (number != SYS_futex && fails(CALL, "syscall", number == SYS_bpf ? ENOMEM : EMFILE))
        return -1;
    return REAL(syscall)(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}

void *mmap(void *address, size_t len, int access, int flags, int fd, off_t offset) {
    return FAILS(mmap, ENOMEM) ? MAP_FAILED : REAL(mmap)(address, len, access, flags, fd, offset);
}

void *mmap64(void *address, size_t len, int access, int flags, int fd, off_t offset) {
    return FAILS(mmap64, ENOMEM) ? MAP_FAILED : REAL(mmap64)(address, len, access, flags, fd, offset);
}

int mprotect(void *address, size_t len, int access) {
    return FAILS(mprotect, ENOMEM) ? -1 : REAL(mprotect)(address, len, access);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list list;

    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    return FAILS(ioctl, ENOMEM) ? -1 : REAL(ioctl)(fd, request, argument);
}

int epoll_create1(int flags) {
    return FAILS(epoll_create1, EMFILE) ? -1 : REAL(epoll_create1)(flags);
}

int epoll_ctl(int set, int operation, int fd, struct epoll_event *event) {
    // An entry that is removed is closed with its descriptor.
    if (operation == EPOLL_CTL_ADD && FAILS(epoll_ctl, ENOSPC))
        return -1;
    return REAL(epoll_ctl)(set, operation, fd, event);
}

int epoll_wait(int set, struct epoll_event *events, int room, int timeout) {
    return FAILS(epoll_wait, EINTR) ? -1 : REAL(epoll_wait)(set, events, room, timeout);
}

int poll(struct pollfd *descriptors, nfds_t count, int timeout) {
    return FAILS(poll, EINTR) ? -1 : REAL(poll)(descriptors, count, timeout);
}

int eventfd(unsigned int value, int flags) {
    return FAILS(eventfd, EMFILE) ? -1 : REAL(eventfd)(value, flags);
}

int timerfd_create(int clock, int flags) {
    return FAILS(timerfd_create, EMFILE) ? -1 : REAL(timerfd_create)(clock, flags);
}

int memfd_create(const char *name, unsigned int flags) {
    return FAILS(memfd_create, EMFILE) ? -1 : REAL(memfd_create)(name, flags);
}

int fcntl64(int fd, int command, ...) {
    va_list list;

    va_start(list, command);
    long argument = va_arg(list, long);
    va_end(list);
    // Only copying a descriptor allocates a kernel resource.
    if (command == F_DUPFD_CLOEXEC && FAILS(fcntl64, EMFILE))
        return -1;
    return REAL(fcntl64)(fd, command, argument);
}

int fcntl(int fd, int command, ...) {
    va_list list;

    va_start(list, command);
    long argument = va_arg(list, long);
    va_end(list);
    if (command == F_DUPFD_CLOEXEC && FAILS(fcntl, EMFILE))
        return -1;
    return REAL(fcntl)(fd, command, argument);
}

int open(const char *path, int flags, ...) {
    va_list list;

    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    return FAILS(open, EMFILE) ? -1 : REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list list;

    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    return FAILS(open64, EMFILE) ? -1 : REAL(open64)(path, flags, mode);
}

FILE *fopen64(const char *restrict path, const char *restrict mode) {
    return FAILS(fopen64, EMFILE) ? NULL : REAL(fopen64)(path, mode);
}

// Reads and writes of 8 bytes are those of eventfd and timerfd, which do not fail.
ssize_t read(int fd, void *into, size_t len) {
    return len != 8 && FAILS(read, EIO) ? -1 : REAL(read)(fd, into, len);
}

ssize_t write(int fd, const void *from, size_t len) {
    return len != 8 && FAILS(write, EIO) ? -1 : REAL(write)(fd, from, len);
}

ssize_t pread64(int fd, void *into, size_t len, off_t at) {
    return FAILS(pread64, EIO) ? -1 : REAL(pread64)(fd, into, len, at);
}

int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes,
                   void *(*run)(void *), void *restrict argument) {
    return FAILS(pthread_create, 0) ? EAGAIN : REAL(pthread_create)(thread, attributes, run, argument);
}

// ---- memory
// ----------------------------------------------------------------------------------------------------

// glibc's names of the functions that are overridden below.
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

// Number of allocated blocks.
static atomic_long pieces;

// Bounds of this program's code, whose allocations are not counted.
extern const char __executable_start, etext;

// Exported by the library with feature `faults`.
int eunomia_fault_rust_allocates(void);

static inline bool has_no_room(const char *name, const char *caller) {
    if (left < 0 || (caller >= &__executable_start && caller < &etext))
        return false;
    return fails(eunomia_fault_rust_allocates() ? RUST_ALLOCATION : C_ALLOCATION, name, ENOMEM);
}

#define NO_ROOM(name) has_no_room(#name, __builtin_return_address(0))

static inline void *counted(void *piece) {
    pieces += piece != NULL;
    return piece;
}

void *malloc(size_t size) {
    return NO_ROOM(malloc) ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size) {
    return NO_ROOM(calloc) ? NULL : counted(__libc_calloc(count, size));
}

void free(void *piece) {
    pieces -= piece != NULL;
    __libc_free(piece);
}

// realloc with size 0 frees the block.
void *realloc(void *old, size_t size) {
    if (size && NO_ROOM(realloc))
        return NULL;
    void *piece = __libc_realloc(old, size);
    pieces += (piece && !old) - (old && !size);
    return piece;
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    if (NO_ROOM(posix_memalign))
        return ENOMEM;
    *out = counted(__libc_memalign(alignment, size));
    return *out ? 0 : ENOMEM;
}

#endif
