/**
 * The guard refuses what would cut the operator or the host's own life-lines off. Hand blocks and the judge ask the same
 * function; only the hand may be root's, and only root's hand may force.
 */
import type { Address } from '../../address/address.ts';
import { covers, formatPrefix, hostPrefix, overlaps, type Prefix } from '../../address/prefix.ts';
import { type PrefixSet, prefixSet } from '../../address/set.ts';
import type { HostFacts } from '../host-facts.ts';
import type { RefuseReason } from '../reason.ts';
import { loopback, nat64, neverBlocked, privateRanges, unspecified } from './ranges.ts';

export interface GuardSettings {
  /** True: RFC 1918, ULA and CGNAT addresses may be blocked. */
  readonly allowPrivate: boolean;
  /** What the operator wants left alone. */
  readonly protected: PrefixSet;
  /** The shortest prefix length that may be blocked. */
  readonly widest: { readonly 4: number; readonly 6: number };
}

/** 8 for IPv4, 32 for IPv6. */
export const defaultWidest = { 4: 8, 6: 32 } as const;

export type RefusalReason = Extract<
  RefuseReason,
  'own_address' | 'ssh_session' | 'gateway' | 'resolver' | 'protected' | 'never_block' | 'private' | 'too_wide'
>;

export interface Refusal {
  readonly reason: RefusalReason;
  /** One sentence for people, e.g. "203.0.113.1 is this host's gateway". */
  readonly detail: string;
  /** False for loopback: not even root can force it. */
  readonly forcible: boolean;
}

/**
 * Null when the target may be blocked. A target that lies in something protected is refused as well as one that covers a
 * part of it. The first reason that holds is given, the most telling first: a gateway in 192.168.0.0/16 is refused as a
 * gateway, also where private ranges are allowed. Loopback comes before all others, because it alone cannot be forced:
 * who forces a refusal of another reason does not force this one unseen.
 *
 * `caller`: the client of the SSH session in which a hand block is typed; null for the daemon.
 */
export function guard(
  target: Prefix,
  host: HostFacts,
  settings: GuardSettings,
  caller: Address | null,
): Refusal | null {
  const own = loopback.overlapping(target);
  if (own !== null) return { reason: 'own_address', detail: say(target, own, 'loopback'), forcible: false };

  for (const { reason, range, what } of lifelines(host, settings, caller)) {
    const member = range.overlapping(target);
    if (member !== null) return { reason, detail: say(target, member, what), forcible: true };
  }

  const widest = settings.widest[target.address.family];
  if (target.length < widest) {
    return { reason: 'too_wide', detail: `${formatPrefix(target)} is wider than /${widest}`, forcible: true };
  }
  if (!settings.allowPrivate) {
    const member = privateRanges.overlapping(target);
    if (member !== null) return { reason: 'private', detail: say(target, member, 'a private range'), forcible: true };
  }

  const inner = behindNat64(target);
  const refusal = inner === null ? null : guard(inner, host, settings, caller);
  if (inner === null || refusal === null) return null;
  const detail = `${formatPrefix(target)} stands for ${formatPrefix(inner)} behind NAT64, and ${refusal.detail}`;
  return { reason: refusal.reason, detail, forcible: true };
}

interface Lifeline {
  readonly reason: RefusalReason;
  readonly range: PrefixSet;
  readonly what: string;
}

function lifelines(host: HostFacts, settings: GuardSettings, caller: Address | null): readonly Lifeline[] {
  return [
    // before the own addresses, which hold it too
    { reason: 'never_block', range: unspecified, what: 'the unspecified address' },
    { reason: 'own_address', range: host.own, what: 'an address of this host' },
    { reason: 'own_address', range: host.containers, what: "a network of this host's containers" },
    ...(caller === null
      ? []
      : [
          {
            reason: 'ssh_session' as const,
            range: prefixSet([hostPrefix(caller)]),
            what: 'where your own SSH session comes from',
          },
        ]),
    { reason: 'ssh_session', range: host.sessions, what: 'where somebody is logged in from over SSH' },
    { reason: 'gateway', range: host.gateways, what: "this host's gateway" },
    { reason: 'resolver', range: host.resolvers, what: 'a name server this host asks' },
    { reason: 'protected', range: settings.protected, what: 'protected by the configuration' },
    { reason: 'never_block', range: host.broadcasts, what: "the broadcast address of one of this host's networks" },
    ...neverBlocked.map(({ range, what }) => ({ reason: 'never_block' as const, range, what })),
  ];
}

/** The IPv4 prefix that a target stands for to a host behind NAT64; null when it stands for none. */
function behindNat64(target: Prefix): Prefix | null {
  if (!overlaps(target, nat64)) return null;
  if (!covers(nat64, target)) return { address: { family: 4, bytes: new Uint8Array(4) }, length: 0 };
  return { address: { family: 4, bytes: target.address.bytes.subarray(12) }, length: target.length - 96 };
}

function say(target: Prefix, member: Prefix, what: string): string {
  const text = formatPrefix(target);
  if (!covers(member, target)) return `${text} covers ${formatPrefix(member)}, ${what}`;
  return covers(target, member) ? `${text} is ${what}` : `${text} lies in ${formatPrefix(member)}, ${what}`;
}
