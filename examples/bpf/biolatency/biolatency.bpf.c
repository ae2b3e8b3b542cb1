#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "../log2.bpf.h"
#include "biolatency.h"

#define ALL_DISKS 0
#define MINOR_BITS 20

/// @description "one histogram per disk"
/// @cmdarg {"short":"D", "long":"per-disk"}
const volatile bool targ_per_disk = false;

/// @description "measure from when a request is queued, not from when it is issued to the disk"
/// @cmdarg {"short":"Q", "long":"queued"}
const volatile bool targ_queued = false;

// Linux 5.17 removed the member; since 5.15 the queue has the disk.
struct request___before_5_17 {
    struct gendisk *rq_disk;
} __attribute__((preserve_access_index));

// Start time of each pending request, in nanoseconds.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10240);
    __type(key, u64);
    __type(value, u64);
} begun SEC(".maps");

/// @sample {"interval":1000, "type":"log2_hist", "unit":"usecs"}
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 256);
    __type(key, u32);
    __type(value, struct hist);
} hists SEC(".maps");

static const struct hist empty_hist;

static struct gendisk *disk_of(struct request *request) {
    struct request___before_5_17 *older = (void *)request;

    if (bpf_core_field_exists(older->rq_disk))
        return BPF_CORE_READ(older, rq_disk);
    return BPF_CORE_READ(request, q, disk);
}

static struct hist *find_hist(struct request *request) {
    struct gendisk *disk = disk_of(request);
    u32 key = ALL_DISKS;
    struct hist *hist;

    if (targ_per_disk)
        key = BPF_CORE_READ(disk, major) << MINOR_BITS | BPF_CORE_READ(disk, first_minor);
    hist = bpf_map_lookup_elem(&hists, &key);
    if (hist)
        return hist;
    bpf_map_update_elem(&hists, &key, &empty_hist, BPF_NOEXIST);
    hist = bpf_map_lookup_elem(&hists, &key);
    if (hist && targ_per_disk)
        bpf_probe_read_kernel_str(hist->disk, sizeof(hist->disk), BPF_CORE_READ(disk, disk_name));
    return hist;
}

static int on_begin(struct request *request, u64 flags) {
    u64 key = (u64)request;
    u64 now = bpf_ktime_get_ns();

    bpf_map_update_elem(&begun, &key, &now, flags);
    return 0;
}

// Linux 5.11 and 5.10.137 removed the queue, the first argument, from these two.
SEC("tp_btf/block_rq_insert")
int BPF_PROG(handle_insert, struct request *request) {
    return targ_queued ? on_begin(request, BPF_ANY) : 0;
}

// A request may be issued without having been queued.
SEC("tp_btf/block_rq_issue")
int BPF_PROG(handle_issue, struct request *request) {
    return on_begin(request, targ_queued ? BPF_NOEXIST : BPF_ANY);
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(handle_complete, struct request *request, int error, unsigned int bytes) {
    u64 key = (u64)request;
    u64 *start = bpf_map_lookup_elem(&begun, &key);
    struct hist *hist;
    u64 took_us;
    u64 slot;

    if (!start)
        return 0;
    took_us = (bpf_ktime_get_ns() - *start) / 1000;
    bpf_map_delete_elem(&begun, &key);

    hist = find_hist(request);
    if (!hist)
        return 0;
    slot = log2_floor(took_us);
    if (slot >= MAX_SLOTS)
        slot = MAX_SLOTS - 1;
    __sync_fetch_and_add(&hist->slots[slot], 1);
    return 0;
}

/// @description "Summarize the latency of disk requests as histograms."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
