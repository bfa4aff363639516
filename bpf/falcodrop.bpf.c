// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Drops what comes from a blocked source: parse, look up, verdict.
 *
 * One instance is loaded per interface, all of them share the pinned maps. Nothing that is enforced
 * lives in the program itself, so that an instance can be replaced under its link at any time.
 */
#include "packet.h"
#include "maps.h"

char _license[] SEC("license") = "GPL";

const volatile __u32 slot;     /* this interface's row of counters */
const volatile bool has_frags; /* the kernel has multi-buffer XDP and bpf_xdp_get_buff_len (5.18) */

/* Never read: names the types that scripts/layout.ts needs in BTF, where only used types appear. */
const volatile union {
	struct sample sample;
	struct port port;
	enum block_owner owner;
	enum block_action action;
	enum mode mode;
	enum hint_prefixes prefixes;
	enum change_operation operation;
	enum change_result result;
} abi_types;

static const __u32 zero;

struct packet {
	__u32 length; /* of the whole frame */
	__u32 ip;     /* offset of the IP header: a number, for pointers would split the verifier's
			 states */
	__u32 family;
	struct cidr_v6 source; /* for IPv4 its first bytes are a struct cidr_v4 */
};

static __always_inline void count(enum count_kind kind, __u32 length)
{
	__u32 row = slot * COUNT_KINDS + kind;
	struct total *total = bpf_map_lookup_elem(&counters, &row);

	if (total) {
		total->packets++;
		total->bytes += length;
	}
}

static __always_inline __u64 skew(void)
{
	const struct hints *hint = bpf_map_lookup_elem(&hints, &zero);

	return hint ? hint->skew_ns : 0;
}

/* Coarse: some ns on a hit where ktime_get_ns takes dozens and an lfence; at most a tick behind. */
static __always_inline __u64 drop_clock(void)
{
	return bpf_ktime_get_coarse_ns() + skew();
}

static __always_inline bool is_live(const struct block *block, __u64 now)
{
	return now < block->drop_until || now < block->count_until;
}

/*
 * The length of the next wider prefix to look for, -1 when there is none. A function of its own,
 * not static, so that the verifier knows nothing of its result: with ranges that shrink from round
 * to round no state of the loops below equals another, and a million instructions are not enough.
 */
__attribute__((noinline)) int next_wider(__u32 found, __u32 asked)
{
	return (int)(found < asked ? found : asked) - 1;
}

/*
 * The longest prefix of at most `next` bits that holds the source. Sets the length to go on from:
 * an entry that does not end the search must not hide a wider one.
 */
static __always_inline void *next_prefix(void *trie, struct cidr_v6 *key, int *next,
					 __u32 length_offset)
{
	void *value;

	if (*next < 0)
		return NULL;
	key->prefix_length = *next;
	value = bpf_map_lookup_elem(trie, key);
	*next = value ? next_wider(*(__u8 *)(value + length_offset), *next) : -1;
	return value;
}

#define LENGTH_OF_BLOCK __builtin_offsetof(struct block, prefix_length)
#define LENGTH_OF_ALLOW __builtin_offsetof(struct allow, prefix_length)

static __always_inline bool is_allowed(void *allowed, const struct cidr_v6 *source, __u32 bits)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct cidr_v6 key = *source;
	struct allow *allow;
	int next = bits;
	__u32 i;

	for (i = 0; i <= bits; i++) {
		allow = next_prefix(allowed, &key, &next, LENGTH_OF_ALLOW);
		if (!allow)
			return false;
		if (now < allow->until)
			return true;
	}
	return false;
}

static __always_inline bool is_listed(const struct port *ports, __u32 length, int local)
{
	__u32 i;

	for (i = 0; i < length && ports[i].protocol; i++) {
		if ((ports[i].protocol << 16 | ports[i].number) == local)
			return true;
	}
	return false;
}

/* Not static, so that they are verified once and not in every round of the loop that asks them. */
__attribute__((noinline)) int is_allowed_v4(const struct cidr_v6 *source)
{
	return source ? is_allowed(&allowed_cidr_v4, source, 32) : 0;
}

__attribute__((noinline)) int is_allowed_v6(const struct cidr_v6 *source)
{
	return source ? is_allowed(&allowed_cidr_v6, source, 128) : 0;
}

__attribute__((noinline)) int local_port(struct xdp_md *ctx, const struct packet *packet)
{
	struct cursor cursor = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};

	if (!packet)
		return LOCAL_HIDDEN;
	cursor.at += packet->ip & 0xff;
	return packet->family == 4 ? local_port_v4(&cursor) : local_port_v6(&cursor);
}

__attribute__((noinline)) int is_in_scope(struct xdp_md *ctx, const struct packet *packet,
					  __u32 row)
{
	const struct scope *scope = bpf_map_lookup_elem(&scopes, &row);
	int local;

	if (!scope || !scope->ports[0].protocol)
		return 1;
	local = local_port(ctx, packet);
	return local == LOCAL_HIDDEN || is_listed(scope->ports, SCOPE_PORTS, local);
}

__attribute__((noinline)) int is_never_dropped(struct xdp_md *ctx, const struct packet *packet)
{
	const struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	return set ? is_listed(set->never_drop, NEVER_DROP_PORTS, local_port(ctx, packet)) : 0;
}

__attribute__((noinline)) int sample(struct xdp_md *ctx, const struct packet *packet,
				     const struct block *block, enum count_kind kind, __u64 now)
{
	struct sample *record;
	void *start = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	void *ip;
	const struct iphdr *ip4;
	const struct ipv6hdr *ip6;
	const __be16 *ports = NULL;

	if (!packet || !block)
		return 0;
	record = bpf_ringbuf_reserve(&drop_samples, sizeof(*record), 0);
	if (!record) {
		count(ALSO_SAMPLE_LOST, packet->length);
		return 0;
	}
	ip = start + (packet->ip & 0xff);
	ip4 = ip;
	ip6 = ip;
	__builtin_memset(record, 0, sizeof(*record));
	record->at = now;
	record->packets = block->packets;
	record->ifindex = ctx->ingress_ifindex;
	record->length = packet->length;
	record->family = packet->family;
	record->kind = kind;
	record->prefix_length = block->prefix_length;
	if (packet->family == 4 && (void *)(ip4 + 1) <= end) {
		record->protocol = ip4->protocol;
		__builtin_memcpy(record->source, &ip4->saddr, 4);
		__builtin_memcpy(record->destination, &ip4->daddr, 4);
		if (ip4->ihl >= 5 && !(ip4->frag_off & bpf_htons(0x1fff)))
			ports = ip + ip4->ihl * 4;
	} else if (packet->family == 6 && (void *)(ip6 + 1) <= end) {
		record->protocol = ip6->nexthdr;
		__builtin_memcpy(record->source, &ip6->saddr, 16);
		__builtin_memcpy(record->destination, &ip6->daddr, 16);
		ports = (void *)(ip6 + 1);
	}
	if (ports && (record->protocol == IPPROTO_TCP || record->protocol == IPPROTO_UDP) &&
	    (void *)(ports + 2) <= end) {
		record->source_port = bpf_ntohs(ports[0]);
		record->destination_port = bpf_ntohs(ports[1]);
	}
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* Sampled: the first packet of an entry, then at powers of two (two CPUs at once may miss one). */
static __always_inline void hit(struct xdp_md *ctx, const struct packet *packet,
				struct block *block, enum count_kind kind, __u64 now, bool sampling)
{
	__u64 before = block->packets;

	__sync_fetch_and_add(&block->packets, 1);
	__sync_fetch_and_add(&block->bytes, packet->length);
	block->last_seen = now;
	if (sampling && !(before & (before + 1)))
		sample(ctx, packet, block, kind, now);
}

/*
 * What one entry of the source says, after what a longer one said. PASS_CLEAN, PASS_OTHER_PORT and
 * PASS_MONITORED let the search go on: what has expired or is for other ports is passed over, what
 * monitors counts and is passed over. Allows are asked at the first live one. Not static, so that
 * the verifier goes through it once and not in every round of the search.
 */
__attribute__((noinline)) int entry(struct xdp_md *ctx, const struct packet *packet,
				    struct block *block, __u32 mode, int before)
{
	const struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	__u64 now = drop_clock();
	enum count_kind kind;

	if (!packet || !block || !set || !is_live(block, now))
		return before;
	if (block->scope && !is_in_scope(ctx, packet, block->scope))
		return before == PASS_CLEAN ? PASS_OTHER_PORT : before;
	if (before != PASS_MONITORED) {
		if (packet->family == 4 ? is_allowed_v4(&packet->source)
					: is_allowed_v6(&packet->source))
			return PASS_ALLOWED;
		if (set->never_drop[0].protocol && is_never_dropped(ctx, packet))
			return PASS_NEVER_DROP;
	}
	kind = now >= block->drop_until                                   ? PASS_MONITORED
	       : mode == MODE_MONITOR                                     ? PASS_MODE_MONITOR
	       : block->prefix_length == (packet->family == 4 ? 32 : 128) ? DROP_ADDRESS
									  : DROP_PREFIX;
	hit(ctx, packet, block, kind, now, set->sampling);
	return kind;
}

static __always_inline bool goes_on(int kind)
{
	return kind == PASS_CLEAN || kind == PASS_OTHER_PORT || kind == PASS_MONITORED;
}

/*
 * The exact address, then the prefixes from the longest to the widest, until an entry ends the
 * search. Clean traffic pays for the lookups and nothing more: no clock, no allows.
 */
static __always_inline int verdict(struct xdp_md *ctx, struct packet *packet, const __u32 family,
				   __u32 mode)
{
	const __u32 bits = family == 4 ? 32 : 128;
	const __u32 hint = family == 4 ? PREFIXES_V4 : PREFIXES_V6;
	void *addresses = family == 4 ? (void *)&blocked_v4 : (void *)&blocked_v6;
	void *trie = family == 4 ? (void *)&blocked_cidr_v4 : (void *)&blocked_cidr_v6;
	const struct hints *known = bpf_map_lookup_elem(&hints, &zero);
	int next = known && (known->prefixes & hint) ? (int)bits : -1;
	struct block *block = bpf_map_lookup_elem(addresses, packet->source.address);
	int kind = PASS_CLEAN;
	__u32 i;

	for (i = 0; i <= bits + 1; i++) {
		if (block) {
			kind = entry(ctx, packet, block, mode, kind);
			if (!goes_on(kind))
				break;
		}
		block = next_prefix(trie, &packet->source, &next, LENGTH_OF_BLOCK);
		if (!block)
			break;
	}
	return kind;
}

static __always_inline __u32 mode_now(const struct settings *settings)
{
	if (settings->deadline && settings->deadline <= bpf_ktime_get_coarse_ns())
		return settings->mode_after;
	return settings->mode;
}

static __always_inline enum count_kind judge(struct xdp_md *ctx, struct packet *packet)
{
	const struct settings *now = bpf_map_lookup_elem(&settings, &zero);
	void *start = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct cursor cursor = {start, end};
	struct ipv6hdr *ip6;
	struct iphdr *ip4;
	enum parsed parsed;
	bool malformed;
	__u32 mode;

	packet->length = has_frags ? bpf_xdp_get_buff_len(ctx) : end - start;
	mode = now ? mode_now(now) : MODE_OFF;
	if (mode == MODE_OFF)
		return PASS_MODE_OFF;

	parsed = parse_frame(&cursor);
	switch (parsed) {
	case PARSED_IPV4:
		ip4 = take(&cursor, sizeof(*ip4));
		if (!ip4)
			return PASS_SHORT_IPV4;
		packet->family = 4;
		packet->ip = (void *)ip4 - start;
		malformed = malformed_v4(ip4, packet->length - packet->ip);
		__builtin_memcpy(packet->source.address, &ip4->saddr, 4);
		break;
	case PARSED_IPV6:
		ip6 = take(&cursor, sizeof(*ip6));
		if (!ip6)
			return PASS_SHORT_IPV6;
		packet->family = 6;
		packet->ip = (void *)ip6 - start;
		malformed = malformed_v6(ip6, packet->length - packet->ip);
		__builtin_memcpy(packet->source.address, &ip6->saddr, 16);
		break;
	case PARSED_TAGS:
		return PASS_TAGS;
	case PARSED_SHORT_LINK:
		return PASS_SHORT_LINK;
	case PARSED_SHORT_IPV4:
		return PASS_SHORT_IPV4;
	case PARSED_SHORT_IPV6:
		return PASS_SHORT_IPV6;
	default:
		return PASS_NOT_IP;
	}
	if (malformed)
		count(ALSO_MALFORMED, packet->length);
	return parsed == PARSED_IPV4 ? verdict(ctx, packet, 4, mode)
				     : verdict(ctx, packet, 6, mode);
}

SEC("xdp")
int falcodrop(struct xdp_md *ctx)
{
	struct packet packet = {};
	enum count_kind kind = judge(ctx, &packet);

	count(kind, packet.length);
	return kind == DROP_ADDRESS || kind == DROP_PREFIX ? XDP_DROP : XDP_PASS;
}

/*
 * An entry made live again after it had ended counts from zero. The fine clock, for a syscall
 * program is refused the coarse one.
 */
static __always_inline enum change_result apply(struct block *block, const struct change *change)
{
	bool was_live = is_live(block, bpf_ktime_get_ns() + skew());
	bool longer =
		change->drop_until > block->drop_until || change->count_until > block->count_until;

	if (change->operation != CHANGE_RAISE && change->operation != CHANGE_SET)
		return CHANGE_INVALID;
	if (!was_live) {
		block->packets = 0;
		block->bytes = 0;
		block->last_seen = 0;
	}
	if (change->operation == CHANGE_SET || !was_live) {
		block->owners = change->owners;
		block->action = change->action;
		block->scope = change->scope;
	}
	if (change->operation == CHANGE_SET) {
		block->drop_until = change->drop_until;
		block->count_until = change->count_until;
		return CHANGE_DONE;
	}
	block->owners |= change->owners;
	if (change->drop_until > block->drop_until)
		block->drop_until = change->drop_until;
	if (change->count_until > block->count_until)
		block->count_until = change->count_until;
	return longer ? CHANGE_DONE : CHANGE_UNCHANGED;
}

/* Arguments: struct change as the context of a test run. */
SEC("syscall")
int change(struct change *context)
{
	struct change args = *context;
	struct block *block = NULL;

	if (args.family == 4)
		block = bpf_map_lookup_elem(&blocked_v4, args.address);
	else if (args.family == 6)
		block = bpf_map_lookup_elem(&blocked_v6, args.address);
	else
		return CHANGE_INVALID;
	return block ? apply(block, &args) : CHANGE_ABSENT;
}

/*
 * The same for the tries, which a sleepable program may not use ("Sleepable programs can only use
 * array, hash, ringbuf and local storage maps"): a socket filter with struct change behind 14 bytes
 * of test-run data, which stand for the Ethernet header and are cut off by the kernel.
 */
SEC("socket")
int change_cidr(struct __sk_buff *skb)
{
	struct cidr_v6 key = {};
	struct block *block = NULL;
	struct change args;

	if (bpf_skb_load_bytes(skb, 0, &args, sizeof(args)))
		return CHANGE_INVALID;
	key.prefix_length = args.prefix_length;
	__builtin_memcpy(key.address, args.address, sizeof(key.address));
	if (args.family == 4)
		block = bpf_map_lookup_elem(&blocked_cidr_v4, &key);
	else if (args.family == 6)
		block = bpf_map_lookup_elem(&blocked_cidr_v6, &key);
	else
		return CHANGE_INVALID;
	if (!block || block->prefix_length != args.prefix_length)
		return CHANGE_ABSENT;
	return apply(block, &args);
}
