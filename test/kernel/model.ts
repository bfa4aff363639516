/**
 * What the laws say about a packet, written from them and not from the C: every entry that covers the source is looked at,
 * and lists are filtered and sorted instead of searched. Slow, and easy to agree with.
 */
import type { Address } from '../../src/address/address.ts';
import type { Port, Ports } from '../../src/address/port.ts';
import { contains, isHost, type Prefix } from '../../src/address/prefix.ts';
import type { CountKind } from '../../src/kernel/counters.ts';

export interface ModelBlock {
  readonly target: Prefix;
  readonly drops: boolean;
  readonly counts: boolean;
  /** Limited to these local ports; empty: to none. */
  readonly ports: Ports;
}

export interface ModelAllow {
  readonly target: Prefix;
  readonly live: boolean;
}

export interface ModelState {
  /** Mode in force, the deadline considered. */
  readonly mode: 'enforce' | 'monitor' | 'off';
  readonly hints: Readonly<Record<4 | 6, boolean>>;
  readonly blocks: readonly ModelBlock[];
  readonly allows: readonly ModelAllow[];
  readonly neverDrop: Ports;
}

export interface Expectation {
  readonly verdict: 'drop' | 'pass';
  /** Every kind that counts this packet, once. */
  readonly kinds: readonly CountKind[];
  /** Entries that count this packet, once each. */
  readonly hit: readonly ModelBlock[];
}

/** The port a packet is for; `none`: its protocol has no ports, `hidden`: this packet does not show it. */
type Local = Port | 'none' | 'hidden';
type Reading = { readonly source: Address; readonly malformed: boolean; readonly local: Local } | CountKind;

/** Behind all headers of IP; `null`: that is not in the packet, or not its beginning. */
function transport(protocol: number, bytes: Uint8Array | null): Local {
  if (![6, 17, 33, 132, 136].includes(protocol)) return 'none';
  return bytes === null || bytes.length < 4 ? 'hidden' : { protocol, number: (bytes[2] ?? 0) * 256 + (bytes[3] ?? 0) };
}

/** RFC 8200: each extension header names the next; nine of them in a row, or one that is cut, hide what follows. */
function throughExtensions(next: number, bytes: Uint8Array, walked = 0): Local {
  const isFragment = next === 44;
  if (![0, 43, 44, 51, 60].includes(next)) return transport(next, bytes);
  if (bytes.length < 8 || walked === 8) return 'hidden';
  const [after = 0, words = 0, high = 0, low = 0] = bytes;
  if (isFragment && high * 256 + low >= 8) return 'hidden';
  const length = isFragment ? 8 : next === 51 ? (words + 2) * 4 : (words + 1) * 8;
  return throughExtensions(after, bytes.subarray(length), walked + 1);
}

/** A frame as a receiver reads it: Ethernet, at most two tags, perhaps a PPPoE session, IP's fixed header. */
export function read(frame: Uint8Array): Reading {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const has = (bytes: number) => frame.length >= bytes;
  const rest = (from: number) => (has(from) ? frame.subarray(from) : null);
  let type = view.getUint16(12);
  let at = 14;
  let tags = 0;
  while (type === 0x8100 || type === 0x88a8) {
    if (++tags > 2) return 'PASS_TAGS';
    if (!has(at + 4)) return 'PASS_SHORT_LINK';
    type = view.getUint16(at + 2);
    at += 4;
  }
  if (type === 0x8864) {
    if (!has(at + 7)) return 'PASS_SHORT_LINK';
    let ppp = view.getUint8(at + 6);
    at += 7;
    if (ppp % 2 === 0) {
      if (!has(at + 1)) return 'PASS_SHORT_LINK';
      ppp = ppp * 256 + view.getUint8(at++);
    }
    type = { 33: 0x0800, 87: 0x86dd }[ppp] ?? 0;
  }
  if (type === 0x0800) {
    if (!has(at + 20)) return 'PASS_SHORT_IPV4';
    const version = view.getUint8(at) >> 4;
    const headerBytes = (view.getUint8(at) & 15) * 4;
    const total = view.getUint16(at + 2);
    const isLaterFragment = view.getUint16(at + 6) % 8192 !== 0;
    return {
      source: { family: 4, bytes: frame.slice(at + 12, at + 16) },
      malformed: version !== 4 || headerBytes < 20 || total < headerBytes || !has(at + total),
      local: isLaterFragment || headerBytes < 20 ? 'hidden' : transport(view.getUint8(at + 9), rest(at + headerBytes)),
    };
  }
  if (type === 0x86dd) {
    if (!has(at + 40)) return 'PASS_SHORT_IPV6';
    const version = view.getUint8(at) >> 4;
    return {
      // Not fromBytes: a v4-mapped source in an IPv6 header is an IPv6 address to the program.
      source: { family: 6, bytes: frame.slice(at + 8, at + 24) },
      malformed: version !== 6 || !has(at + 40 + view.getUint16(at + 4)),
      local: throughExtensions(view.getUint8(at + 6), frame.subarray(at + 40)),
    };
  }
  return 'PASS_NOT_IP';
}

export function expectation(state: ModelState, frame: Uint8Array): Expectation {
  const passes = (kinds: readonly CountKind[], hit: readonly ModelBlock[] = []): Expectation => ({
    verdict: 'pass',
    kinds,
    hit,
  });
  if (state.mode === 'off') return passes(['PASS_MODE_OFF']);
  const packet = read(frame);
  if (typeof packet === 'string') return passes([packet]);

  const { source, local } = packet;
  const beside: CountKind[] = packet.malformed ? ['ALSO_MALFORMED'] : [];
  // Law 7: whatever the header says. Law 8: live ones only, the longest first.
  const live = state.blocks
    .filter((block) => block.drops || block.counts)
    .filter((block) => contains(block.target, source))
    .filter((block) => isHost(block.target) || state.hints[source.family])
    .sort((a, b) => b.target.length - a.target.length);
  if (live.length === 0) return passes([...beside, 'PASS_CLEAN']);
  // A scope holds its ports, and what does not show its port.
  const inScope = live.filter(({ ports }) => ports.length === 0 || local === 'hidden' || isIn(ports, local));
  if (inScope.length === 0) return passes([...beside, 'PASS_OTHER_PORT']);
  // Law 5: allow always wins, however wide; an allowed packet adds to totals only.
  if (state.allows.some((allow) => allow.live && contains(allow.target, source))) {
    return passes([...beside, 'PASS_ALLOWED']);
  }
  if (local !== 'hidden' && isIn(state.neverDrop, local)) return passes([...beside, 'PASS_NEVER_DROP']);
  // Law 8: only a live enforce entry ends the search; what was met before counts the packet too.
  const end = inScope.findIndex((block) => block.drops);
  if (end < 0) return passes([...beside, 'PASS_MONITORED'], inScope);
  const hit = inScope.slice(0, end + 1);
  if (state.mode === 'monitor') return passes([...beside, 'PASS_MODE_MONITOR'], hit);
  const decisive = hit.at(-1);
  const kind: CountKind = decisive !== undefined && isHost(decisive.target) ? 'DROP_ADDRESS' : 'DROP_PREFIX';
  return { verdict: 'drop', kinds: [...beside, kind], hit };
}

function isIn(ports: Ports, local: Port | 'none'): boolean {
  return local !== 'none' && ports.some((port) => port.protocol === local.protocol && port.number === local.number);
}
