#ifndef LOG2_BPF_H
#define LOG2_BPF_H

// The slot of a value in a histogram whose slots double: 0 for 0 and 1, n for 2^n up to 2^(n+1)-1. Written
// without loops, for it runs at every switch of threads; in 64 bits, for what is compared in 32 older kernels
// have forgotten by the time it is an index.
static __always_inline u64 log2_floor(u64 value) {
    u64 shift, result;

    result = (value > 0xffffffff) << 5;
    value >>= result;
    shift = (value > 0xffff) << 4;
    value >>= shift;
    result |= shift;
    shift = (value > 0xff) << 3;
    value >>= shift;
    result |= shift;
    shift = (value > 0xf) << 2;
    value >>= shift;
    result |= shift;
    shift = (value > 0x3) << 1;
    value >>= shift;
    return result | shift | (value >> 1);
}

#endif
