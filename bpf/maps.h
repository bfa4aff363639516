/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The pinned maps. Sizes of the block maps are set by user space at the first attach. Hashes are
 * preallocated (a full one refuses, and an insert never allocates); tries cannot be.
 */
#ifndef FALCODROP_MAPS_H
#define FALCODROP_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"

#define DEFAULT_ADDRESSES 262144
#define DEFAULT_PREFIXES  65536
#define MAX_ALLOWS        16384
#define SAMPLE_BYTES      (256 * 1024) /* a multiple of 64 KiB: page sizes differ */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DEFAULT_ADDRESSES);
	__type(key, __u32);
	__type(value, struct block);
} blocked_v4 SEC(".maps");

struct address_v6 {
	__u8 bytes[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DEFAULT_ADDRESSES);
	__type(key, struct address_v6);
	__type(value, struct block);
} blocked_v6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, DEFAULT_PREFIXES);
	__type(key, struct cidr_v4);
	__type(value, struct block);
} blocked_cidr_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, DEFAULT_PREFIXES);
	__type(key, struct cidr_v6);
	__type(value, struct block);
} blocked_cidr_v6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_ALLOWS);
	__type(key, struct cidr_v4);
	__type(value, struct allow);
} allowed_cidr_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_ALLOWS);
	__type(key, struct cidr_v6);
	__type(value, struct allow);
} allowed_cidr_v6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SCOPES);
	__type(key, __u32);
	__type(value, struct scope);
} scopes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hints);
} hints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_SLOTS *COUNT_KINDS);
	__type(key, __u32);
	__type(value, struct total);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, struct interface_slot);
} interfaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SAMPLE_BYTES);
} drop_samples SEC(".maps");

#endif
