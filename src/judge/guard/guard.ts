import type { Address } from '../../address/address.ts';
import type { Prefix } from '../../address/prefix.ts';
import type { PrefixSet } from '../../address/set.ts';
import type { HostFacts } from '../host-facts.ts';
import type { RefuseReason } from '../reason.ts';

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

export function guard(
  _target: Prefix,
  _host: HostFacts,
  _settings: GuardSettings,
  _caller: Address | null,
): Refusal | null {
  throw new Error('to be written');
}
