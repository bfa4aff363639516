/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * From the first byte of a frame to its IP header. A cursor walks; each helper returns the next
 * protocol, or says how the frame ends. Needs no BPF helper, so it compiles for user space too.
 */
#ifndef FALCODROP_PACKET_H
#define FALCODROP_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include "abi.h"

#define MAX_TAGS       2 /* 802.1ad outside, 802.1Q inside */
#define MAX_EXTENSIONS 8 /* IPv6 headers that are walked to the ports */

#define PPP_IPV4 0x0021 /* RFC 1332 */
#define PPP_IPV6 0x0057 /* RFC 5072 */

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

struct cursor {
	void *at;
	void *end;
};

struct vlan_tag {
	__be16 control;
	__be16 type;
};

struct pppoe_session { /* RFC 2516, section 4 */
	__u8 version_type;
	__u8 code;
	__be16 session;
	__be16 length;
};

enum parsed {
	PARSED_IPV4,
	PARSED_IPV6,
	PARSED_NOT_IP,
	PARSED_TAGS,
	PARSED_SHORT_LINK,
	PARSED_SHORT_IPV4,
	PARSED_SHORT_IPV6,
};

/* The header under the cursor, which moves behind it; NULL when the frame ends before. */
static __always_inline void *take(struct cursor *cursor, __u32 size)
{
	void *header = cursor->at;

	if (header + size > cursor->end)
		return NULL;
	cursor->at = header + size;
	return header;
}

/*
 * PPP's protocol number inside a PPPoE session, as the Ethernet type of what it carries (0: not
 * IP), or -1 when the frame ends before. A number whose first byte is odd is compressed to that
 * byte (RFC 1661, section 6.5); the kernel takes both.
 */
static __always_inline int parse_pppoe(struct cursor *cursor)
{
	__u16 protocol;
	__u8 *byte;

	if (!take(cursor, sizeof(struct pppoe_session)))
		return -1;
	byte = take(cursor, 1);
	if (!byte)
		return -1;
	protocol = *byte;
	if (!(protocol & 1)) {
		byte = take(cursor, 1);
		if (!byte)
			return -1;
		protocol = protocol << 8 | *byte;
	}
	if (protocol == PPP_IPV4)
		return bpf_htons(ETH_P_IP);
	return protocol == PPP_IPV6 ? bpf_htons(ETH_P_IPV6) : 0;
}

/* Leaves the cursor on the IP header, whose fixed part is within the frame, for PARSED_IPV4 and
 * PARSED_IPV6. */
static __always_inline enum parsed parse_frame(struct cursor *cursor)
{
	struct ethhdr *ethernet = take(cursor, sizeof(*ethernet));
	struct vlan_tag *tag;
	__be16 type;
	int inner, i;

	if (!ethernet)
		return PARSED_SHORT_LINK;
	type = ethernet->h_proto;
	for (i = 0; i <= MAX_TAGS; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if (i == MAX_TAGS)
			return PARSED_TAGS;
		tag = take(cursor, sizeof(*tag));
		if (!tag)
			return PARSED_SHORT_LINK;
		type = tag->type;
	}
	if (type == bpf_htons(ETH_P_PPP_SES)) {
		inner = parse_pppoe(cursor);
		if (inner < 0)
			return PARSED_SHORT_LINK;
		type = inner;
	}
	if (type == bpf_htons(ETH_P_IP))
		return cursor->at + sizeof(struct iphdr) > cursor->end ? PARSED_SHORT_IPV4
								       : PARSED_IPV4;
	if (type == bpf_htons(ETH_P_IPV6))
		return cursor->at + sizeof(struct ipv6hdr) > cursor->end ? PARSED_SHORT_IPV6
									 : PARSED_IPV6;
	return PARSED_NOT_IP;
}

#define LOCAL_NONE   0    /* its protocol has no ports */
#define LOCAL_HIDDEN (-1) /* not to be seen in this packet */

/* The destination port of a packet as protocol << 16 | port, or one of the two above. */
static __always_inline int port_under(struct cursor *cursor, __u8 protocol)
{
	__be16 *ports;

	switch (protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_DCCP:
	case IPPROTO_SCTP:
	case IPPROTO_UDPLITE:
		ports = take(cursor, 2 * sizeof(*ports));
		return ports ? protocol << 16 | bpf_ntohs(ports[1]) : LOCAL_HIDDEN;
	default:
		return LOCAL_NONE;
	}
}

/* From the IPv4 header on. A header length below five hides what follows. */
static __always_inline int local_port_v4(struct cursor *cursor)
{
	const struct iphdr *ip = take(cursor, sizeof(*ip));

	if (!ip || ip->ihl < 5 || ip->frag_off & bpf_htons(0x1fff))
		return LOCAL_HIDDEN;
	cursor->at += ip->ihl * 4 - sizeof(*ip);
	return port_under(cursor, ip->protocol);
}

struct extension { /* RFC 8200 section 4; AH: RFC 4302 */
	__u8 next;
	__u8 length;
	__be16 fragment; /* of a fragment header: offset and flags */
	__u32 rest;
};

/* From the IPv6 header on, through extension headers. */
static __always_inline int local_port_v6(struct cursor *cursor)
{
	const struct ipv6hdr *ip = take(cursor, sizeof(*ip));
	const struct extension *header;
	__u8 next;
	int i;

	if (!ip)
		return LOCAL_HIDDEN;
	next = ip->nexthdr;
	for (i = 0; i <= MAX_EXTENSIONS; i++) {
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT && next != IPPROTO_AH)
			return port_under(cursor, next);
		header = take(cursor, sizeof(*header));
		if (!header)
			return LOCAL_HIDDEN;
		if (next == IPPROTO_FRAGMENT) {
			if (header->fragment & bpf_htons(0xfff8))
				return LOCAL_HIDDEN;
		} else {
			cursor->at += header->length * (next == IPPROTO_AH ? 4 : 8);
		}
		next = header->next;
	}
	return LOCAL_HIDDEN;
}

/* `rest` is what the frame holds from the IP header on, in bytes; Ethernet padding may follow the
 * packet. */
static __always_inline bool malformed_v4(const struct iphdr *ip, __u32 rest)
{
	__u32 total = bpf_ntohs(ip->tot_len);

	return ip->version != 4 || ip->ihl < 5 || total < ip->ihl * 4u || total > rest;
}

/* A payload length of zero is a jumbogram's (RFC 2675), or nothing but the header. */
static __always_inline bool malformed_v6(const struct ipv6hdr *ip, __u32 rest)
{
	return ip->version != 6 || sizeof(*ip) + bpf_ntohs(ip->payload_len) > rest;
}

#endif
