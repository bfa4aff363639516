/** Frames, built header by header. Every field can lie. Numbers are host order, addresses text. */
import { parseAddress } from '../../src/address/address.ts';

export const ethertype = {
  ipv4: 0x0800,
  arp: 0x0806,
  dot1q: 0x8100,
  ipv6: 0x86dd,
  mpls: 0x8847,
  mplsMulticast: 0x8848,
  pppoeDiscovery: 0x8863,
  pppoeSession: 0x8864,
  eapol: 0x888e,
  dot1ad: 0x88a8,
  lldp: 0x88cc,
  macsec: 0x88e5,
} as const;

/** IANA protocol numbers, also those of IPv6 extension headers. */
export const protocol = {
  hopByHop: 0,
  icmp: 1,
  igmp: 2,
  ipip: 4,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  routing: 43,
  fragment: 44,
  gre: 47,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  none: 59,
  destination: 60,
  sctp: 132,
  mobility: 135,
  udplite: 136,
  hip: 139,
  shim6: 140,
  experiment: 253,
} as const;

/** Between the MAC addresses and the network header. */
export interface LinkLayer {
  /** Tag protocol ids, the outermost first. */
  readonly tags?: readonly number[];
  /** `compressed`: PPP's protocol number in one byte (RFC 1661 6.5). */
  readonly pppoe?: 'full' | 'compressed';
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value & 0xffff);
  return bytes;
}

/** The MAC addresses, tags and a type, then the rest as given. */
export function frameOf(type: number, rest: Uint8Array, tags: readonly number[] = []): Buffer {
  const macs = Buffer.from('02fd0000000102fd00000002', 'hex');
  const tagged = tags.map((tag, index) => Buffer.concat([u16(tag), u16(0x2000 | (100 + index))]));
  return Buffer.concat([macs, ...tagged, u16(type), rest]);
}

/** A PPPoE session header (RFC 2516) and PPP's protocol number as bytes. */
export function pppoeSession(pppProtocol: Uint8Array, rest: Uint8Array): Buffer {
  return Buffer.concat([
    Buffer.from([0x11, 0x00]),
    u16(0x1234),
    u16(pppProtocol.length + rest.length),
    pppProtocol,
    rest,
  ]);
}

/** An IP packet in a frame. */
export function frame(family: 4 | 6, packet: Uint8Array, link: LinkLayer = {}): Buffer {
  const tags = link.tags ?? [];
  if (link.pppoe === undefined) return frameOf(family === 4 ? ethertype.ipv4 : ethertype.ipv6, packet, tags);
  const number = family === 4 ? 0x21 : 0x57;
  const bytes = link.pppoe === 'compressed' ? [number] : [0, number];
  return frameOf(ethertype.pppoeSession, pppoeSession(Uint8Array.from(bytes), packet), tags);
}

/** Bytes before the IP header. */
export function linkLength(link: LinkLayer): number {
  const pppoe = link.pppoe === undefined ? 0 : link.pppoe === 'full' ? 8 : 7;
  return 14 + 4 * (link.tags?.length ?? 0) + pppoe;
}

export interface Ipv4 {
  readonly source: string;
  readonly destination?: string;
  readonly protocol?: number;
  readonly payload?: Uint8Array;
  /** Padded to words; `ihl` follows unless given. */
  readonly options?: Uint8Array;
  readonly version?: number;
  readonly ihl?: number;
  readonly totalLength?: number;
  /** In bytes, a multiple of 8. */
  readonly fragmentOffset?: number;
  readonly moreFragments?: boolean;
}

/** Without a checksum: XDP looks at none. */
export function ipv4(fields: Ipv4): Buffer {
  const options = Buffer.alloc(Math.ceil((fields.options?.length ?? 0) / 4) * 4);
  if (fields.options !== undefined) options.set(fields.options);
  const payload = fields.payload ?? Buffer.alloc(0);
  const header = Buffer.alloc(20);
  header[0] = ((fields.version ?? 4) << 4) | (fields.ihl ?? 5 + options.length / 4);
  header.writeUInt16BE(fields.totalLength ?? 20 + options.length + payload.length, 2);
  header.writeUInt16BE((fields.moreFragments === true ? 0x2000 : 0) | ((fields.fragmentOffset ?? 0) >> 3), 6);
  header[8] = 64;
  header[9] = fields.protocol ?? protocol.udp;
  header.set(parseAddress(fields.source).bytes, 12);
  header.set(parseAddress(fields.destination ?? '192.0.2.1').bytes, 16);
  return Buffer.concat([header, options, payload]);
}

export interface Ipv6 {
  readonly source: string;
  readonly destination?: string;
  readonly next?: number;
  readonly payload?: Uint8Array;
  readonly version?: number;
  readonly payloadLength?: number;
}

/** `source` as 16 bytes where the text would be taken for IPv4 (mapped addresses). */
export function ipv6(fields: Omit<Ipv6, 'source'> & { readonly source: string | Uint8Array }): Buffer {
  const payload = fields.payload ?? Buffer.alloc(0);
  const header = Buffer.alloc(40);
  header[0] = (fields.version ?? 6) << 4;
  header.writeUInt16BE(fields.payloadLength ?? payload.length, 4);
  header[6] = fields.next ?? protocol.udp;
  header[7] = 64;
  header.set(typeof fields.source === 'string' ? parseAddress(fields.source).bytes : fields.source, 8);
  header.set(parseAddress(fields.destination ?? '2001:db8::1').bytes, 24);
  return Buffer.concat([header, payload]);
}

/** The first words of a TCP segment: ports, numbers, flags. */
export function tcp(sourcePort: number, destinationPort: number): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt16BE(sourcePort, 0);
  header.writeUInt16BE(destinationPort, 2);
  header[12] = 0x50;
  header[13] = 0x02;
  return header;
}

export function udp(sourcePort: number, destinationPort: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  return Buffer.concat([u16(sourcePort), u16(destinationPort), u16(8 + payload.length), u16(0), payload]);
}

/** Eight bytes, the first of them given: enough of ICMP, GRE, ESP, SCTP for a program that must not look at them. */
export function eight(first = 0): Buffer {
  const bytes = Buffer.alloc(8, 0xa5);
  bytes[0] = first;
  return bytes;
}

/** An IPv6 extension header of 8 bytes (RFC 8200 section 4): next header, length, six bytes. */
export function extension(next: number, rest: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([next, 0, 1, 4, 0, 0, 0, 0]), rest]);
}

/** RFC 8200 section 4.5. `offset` in bytes, a multiple of 8. */
export function fragment(next: number, offset: number, more: boolean, rest: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([next, 0]), u16(offset | (more ? 1 : 0)), Buffer.from([1, 2, 3, 4]), rest]);
}

export interface Traffic {
  readonly name: string;
  readonly family: 4 | 6;
  /** The IP packet from a source; the length of its fixed header is 20 or 40. */
  packet(source: string): Buffer;
  /** Set when the header lies: counted beside, and looked up all the same. */
  readonly malformed?: true;
}

const v4 = (name: string, fields: Omit<Ipv4, 'source'>, malformed?: true): Traffic => ({
  name: `IPv4 ${name}`,
  family: 4,
  packet: (source) => ipv4({ source, ...fields }),
  ...(malformed === undefined ? {} : { malformed }),
});

const v6 = (name: string, fields: Omit<Ipv6, 'source'>, malformed?: true): Traffic => ({
  name: `IPv6 ${name}`,
  family: 6,
  packet: (source) => ipv6({ source, ...fields }),
  ...(malformed === undefined ? {} : { malformed }),
});

const p = protocol;

/** Whatever an attacker can put behind, and into, an IP header. */
export const traffic: readonly Traffic[] = [
  v4('TCP', { protocol: p.tcp, payload: tcp(40000, 22) }),
  v4('UDP', { protocol: p.udp, payload: udp(53, 5353) }),
  v4('ICMP', { protocol: p.icmp, payload: eight(8) }),
  v4('IGMP', { protocol: p.igmp, payload: eight(0x16) }),
  v4('GRE', { protocol: p.gre, payload: eight(0) }),
  v4('ESP', { protocol: p.esp, payload: eight() }),
  v4('AH', { protocol: p.ah, payload: extension(p.tcp, tcp(1, 2)) }),
  v4('SCTP', { protocol: p.sctp, payload: eight() }),
  v4('UDP-Lite', { protocol: p.udplite, payload: eight() }),
  v4('IP in IP', { protocol: p.ipip, payload: ipv4({ source: '198.51.100.250' }) }),
  v4('IPv6 in IP', { protocol: p.ipv6, payload: ipv6({ source: '2001:db8:ffff::1' }) }),
  v4('an unknown protocol', { protocol: p.experiment, payload: eight() }),
  v4('protocol 0', { protocol: 0, payload: eight() }),
  v4('no payload', { payload: Buffer.alloc(0) }),
  v4('first fragment', { moreFragments: true, payload: udp(1, 2) }),
  v4('later fragment', { fragmentOffset: 1480, moreFragments: true, payload: eight() }),
  v4('last fragment', { fragmentOffset: 2960, payload: eight() }),
  v4('options', { protocol: p.tcp, options: Buffer.from([7, 7, 4, 0, 0, 0, 0, 0]), payload: tcp(1, 2) }),
  v4('as many options as there can be', { options: Buffer.alloc(40, 1), payload: udp(1, 2) }),
  v4('ihl 0', { ihl: 0, payload: udp(1, 2) }, true),
  v4('ihl 4', { ihl: 4, payload: udp(1, 2) }, true),
  v4('ihl 15 beyond the total length', { ihl: 15, payload: udp(1, 2) }, true),
  v4('version 6', { version: 6, payload: udp(1, 2) }, true),
  v4('version 0', { version: 0, payload: udp(1, 2) }, true),
  v4('total length 0', { totalLength: 0, payload: udp(1, 2) }, true),
  v4('total length 19', { totalLength: 19, payload: udp(1, 2) }, true),
  v4('total length 20', { totalLength: 20, payload: udp(1, 2) }),
  v4('total length below ihl', { totalLength: 20, options: eight(), payload: udp(1, 2) }, true),
  v4('total length one too large', { totalLength: 29, payload: udp(1, 2) }, true),
  v4('total length 65535', { totalLength: 65535, payload: udp(1, 2) }, true),
  v6('TCP', { next: p.tcp, payload: tcp(40000, 22) }),
  v6('UDP', { next: p.udp, payload: udp(53, 5353) }),
  v6('ICMPv6', { next: p.icmpv6, payload: eight(128) }),
  v6('neighbour solicitation', { next: p.icmpv6, payload: eight(135) }),
  v6('GRE', { next: p.gre, payload: eight(0) }),
  v6('ESP', { next: p.esp, payload: eight() }),
  v6('AH', { next: p.ah, payload: extension(p.tcp, tcp(1, 2)) }),
  v6('SCTP', { next: p.sctp, payload: eight() }),
  v6('IP in IPv6', { next: p.ipip, payload: ipv4({ source: '198.51.100.250' }) }),
  v6('IPv6 in IPv6', { next: p.ipv6, payload: ipv6({ source: '2001:db8:ffff::1' }) }),
  v6('hop by hop', { next: p.hopByHop, payload: extension(p.tcp, tcp(1, 2)) }),
  v6('routing', { next: p.routing, payload: extension(p.tcp, tcp(1, 2)) }),
  v6('destination options', { next: p.destination, payload: extension(p.udp, udp(1, 2)) }),
  v6('mobility', { next: p.mobility, payload: extension(p.none, Buffer.alloc(0)) }),
  v6('HIP', { next: p.hip, payload: extension(p.none, Buffer.alloc(0)) }),
  v6('shim6', { next: p.shim6, payload: extension(p.tcp, tcp(1, 2)) }),
  v6('no next header', { next: p.none, payload: Buffer.alloc(0) }),
  v6('an unknown next header', { next: p.experiment, payload: eight() }),
  v6('first fragment', { next: p.fragment, payload: fragment(p.udp, 0, true, udp(1, 2)) }),
  v6('later fragment', { next: p.fragment, payload: fragment(p.udp, 1448, true, eight()) }),
  v6('atomic fragment', { next: p.fragment, payload: fragment(p.tcp, 0, false, tcp(1, 2)) }),
  v6('a chain of all extension headers', {
    next: p.hopByHop,
    payload: extension(
      p.destination,
      extension(p.routing, extension(p.fragment, fragment(p.destination, 0, false, extension(p.tcp, tcp(1, 2))))),
    ),
  }),
  v6('hop by hop twenty times', {
    next: p.hopByHop,
    payload: Array.from({ length: 20 }).reduce<Buffer>((rest) => extension(p.hopByHop, rest), tcp(1, 2)),
  }),
  v6('payload length 0, as of a jumbogram', { next: p.hopByHop, payloadLength: 0, payload: eight() }),
  v6('payload length too small', { payloadLength: 1, payload: udp(1, 2) }),
  v6('payload length one too large', { payloadLength: 9, payload: udp(1, 2) }, true),
  v6('payload length 65535', { payloadLength: 65535, payload: udp(1, 2) }, true),
  v6('version 4', { version: 4, payload: udp(1, 2) }, true),
  v6('version 15', { version: 15, payload: udp(1, 2) }, true),
];

const q = ethertype.dot1q;
const ad = ethertype.dot1ad;

/** What the program sees through. */
export const links: readonly (LinkLayer & { readonly name: string })[] = [
  { name: 'untagged' },
  { name: '802.1Q', tags: [q] },
  { name: '802.1ad', tags: [ad] },
  { name: '802.1ad and 802.1Q', tags: [ad, q] },
  { name: '802.1Q twice', tags: [q, q] },
  { name: '802.1ad twice', tags: [ad, ad] },
  { name: 'PPPoE', pppoe: 'full' },
  { name: 'PPPoE, compressed protocol', pppoe: 'compressed' },
  { name: 'PPPoE in 802.1Q', tags: [q], pppoe: 'full' },
  { name: 'PPPoE in 802.1ad and 802.1Q, compressed protocol', tags: [ad, q], pppoe: 'compressed' },
];
