/**
 * What the laws say about a packet, written from them and not from the C: every entry that covers the source is looked at,
 * and lists are filtered and sorted instead of searched. Slow, and easy to agree with.
 */
import type { Address } from '../../src/address/address.ts';
import { contains, isHost, type Prefix } from '../../src/address/prefix.ts';
import type { CountKind } from '../../src/kernel/counters.ts';

export interface ModelBlock {
  readonly target: Prefix;
  readonly drops: boolean;
  readonly counts: boolean;
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
}

export interface Expectation {
  readonly verdict: 'drop' | 'pass';
  /** Every kind that counts this packet, once. */
  readonly kinds: readonly CountKind[];
  /** Entries that count this packet, once each. */
  readonly hit: readonly ModelBlock[];
}

type Reading = { readonly source: Address; readonly malformed: boolean } | CountKind;

/** A frame as a receiver reads it: Ethernet, at most two tags, perhaps a PPPoE session, IP's fixed header. */
export function read(frame: Uint8Array): Reading {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const has = (bytes: number) => frame.length >= bytes;
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
    return {
      source: { family: 4, bytes: frame.slice(at + 12, at + 16) },
      malformed: version !== 4 || headerBytes < 20 || total < headerBytes || !has(at + total),
    };
  }
  if (type === 0x86dd) {
    if (!has(at + 40)) return 'PASS_SHORT_IPV6';
    const version = view.getUint8(at) >> 4;
    return {
      // Not fromBytes: a v4-mapped source in an IPv6 header is an IPv6 address to the program.
      source: { family: 6, bytes: frame.slice(at + 8, at + 24) },
      malformed: version !== 6 || !has(at + 40 + view.getUint16(at + 4)),
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

  const { source } = packet;
  const beside: CountKind[] = packet.malformed ? ['ALSO_MALFORMED'] : [];
  // Law 7: whatever the header says. Law 8: live ones only, the longest first.
  const live = state.blocks
    .filter((block) => block.drops || block.counts)
    .filter((block) => contains(block.target, source))
    .filter((block) => isHost(block.target) || state.hints[source.family])
    .sort((a, b) => b.target.length - a.target.length);
  if (live.length === 0) return passes([...beside, 'PASS_CLEAN']);
  // Law 5: allow always wins, however wide; an allowed packet adds to totals only.
  if (state.allows.some((allow) => allow.live && contains(allow.target, source))) {
    return passes([...beside, 'PASS_ALLOWED']);
  }
  // Law 8: only a live enforce entry ends the search; what was met before counts the packet too.
  const end = live.findIndex((block) => block.drops);
  if (end < 0) return passes([...beside, 'PASS_MONITORED'], live);
  const hit = live.slice(0, end + 1);
  if (state.mode === 'monitor') return passes([...beside, 'PASS_MODE_MONITOR'], hit);
  const decisive = hit.at(-1);
  const kind: CountKind = decisive !== undefined && isHost(decisive.target) ? 'DROP_ADDRESS' : 'DROP_PREFIX';
  return { verdict: 'drop', kinds: [...beside, kind], hit };
}
