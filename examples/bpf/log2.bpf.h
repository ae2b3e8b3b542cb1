#ifndef LOG2_BPF_H
#define LOG2_BPF_H

// The slot of a value in a histogram whose slots double: 0 for 0 and 1, n for 2^n up to 2^(n+1)-1. There is
// no loop, because this runs at every thread switch. The numbers have 64 bits, because the verifier of older
// kernels does not remember the range of a 32-bit number.
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
