/** Claims as people and programs are told of them: whose, what, until when, why. */
import { formatPorts, type Ports } from '../address/port.ts';
import { type Anchor, toWall } from '../blocklist/ledger/clock.ts';
import type { Ledger } from '../blocklist/ledger/ledger.ts';
import { type CauseId, type Claim, forEver, type Hand, never, type StoredCause } from '../blocklist/ledger/record.ts';
import { modeOf } from './filter.ts';
import { endAt, wholeSeconds } from './output/entry.ts';
import { utc } from './output/moment.ts';

export interface ToldClaim {
  readonly owner: string;
  readonly mode: 'enforce' | 'monitor';
  /** Empty: every port. */
  readonly ports: Ports;
  /** Waits to be confirmed: how long it goes on then; null = for ever, undefined: nothing waits. */
  readonly wishedSeconds?: number | null;
  /** How long it goes on dropping, and counting without dropping; 0 = it does not, null = for ever. */
  readonly dropSeconds: number | null;
  readonly countSeconds: number | null;
  readonly begunMs: number;
  readonly rule: string | null;
  readonly policy: string | null;
  readonly reason: string | null;
  readonly by: Hand | null;
}

/** Causes kept: a listing goes from one set to the next. */
const mostCauses = 4096;

export interface Teller {
  readonly claim: (claim: Claim) => ToldClaim;
  readonly cause: (id: CauseId) => StoredCause | null;
  readonly anchor: Anchor;
}

/** Tells at one moment: the clocks are read once. */
export function tellerOf(ledger: Ledger): Teller {
  const anchor = ledger.anchor();
  const known = new Map<CauseId, StoredCause | null>();
  const causeOf = (id: CauseId): StoredCause | null => {
    const before = known.get(id);
    if (before !== undefined) return before;
    if (known.size >= mostCauses) known.clear();
    const cause = ledger.cause(id);
    known.set(id, cause);
    return cause;
  };
  return {
    anchor,
    cause: causeOf,
    claim: (claim) => ({
      owner: claim.owner,
      mode: modeOf(claim, anchor.ledgerMs),
      ports: claim.ports,
      ...(claim.wishedEnd === null ? {} : { wishedSeconds: secondsTo(claim.wishedEnd, anchor.ledgerMs) }),
      dropSeconds: secondsTo(claim.dropEnd, anchor.ledgerMs),
      countSeconds: secondsTo(claim.countEnd, anchor.ledgerMs),
      begunMs: toWall(anchor, claim.begun),
      ...whyOf(causeOf(claim.cause)),
    }),
  };
}

export type Why = Pick<ToldClaim, 'rule' | 'policy' | 'reason' | 'by'>;

export function whyOf(cause: StoredCause | null): Why {
  if (cause === null) return { rule: null, policy: null, reason: null, by: null };
  if (cause.kind === 'alert') return { rule: cause.rule, policy: cause.policy, reason: null, by: null };
  if (cause.kind === 'hand') return { rule: null, policy: null, reason: cause.reason, by: cause.hand };
  const set = cause.name === null ? cause.kind : `${cause.kind} ${cause.name}`;
  return { rule: null, policy: null, reason: cause.reason ?? set, by: cause.hand };
}

/** Keys of a claim in JSON; ends as in an entry. */
export function claimObject(claim: ToldClaim, nowMs: number) {
  const seconds = secondsOf(claim);
  return {
    owner: claim.owner,
    mode: claim.mode,
    ports: portsText(claim.ports),
    ends_at_if_confirmed: claim.wishedSeconds === undefined ? null : (endAt(claim.wishedSeconds, nowMs) ?? 'never'),
    ends_at: endAt(seconds, nowMs),
    ends_in_seconds: wholeSeconds(seconds),
    drop_seconds: wholeSeconds(claim.dropSeconds),
    count_seconds: wholeSeconds(claim.countSeconds),
    begun_at: utc(claim.begunMs),
    rule: claim.rule,
    policy: claim.policy,
    reason: claim.reason,
    by: handObject(claim.by),
  };
}

/** `tcp/22,udp/53`; null: every port. */
export function portsText(ports: Ports): string | null {
  return ports.length === 0 ? null : formatPorts(ports);
}

export function handObject(hand: Hand | null) {
  if (hand === null) return null;
  const { verb, loginUid, uid, sudoUser, tty, sshClient } = hand;
  return { verb, login_uid: loginUid, uid, sudo_user: sudoUser, tty, ssh_client: sshClient };
}

/** Who, for people: `alice (uid 1000) on pts/3 from 192.0.2.7`. */
export function handText({ loginUid, uid, sudoUser, tty, sshClient }: Hand): string {
  const id = `uid ${loginUid ?? uid}`;
  return [
    sudoUser === null ? id : `${sudoUser} (${id})`,
    tty === null ? '' : ` on ${tty}`,
    sshClient === null ? '' : ` from ${sshClient}`,
  ].join('');
}

/** Until the end of what it does now. */
export function secondsOf({ mode, dropSeconds, countSeconds }: ToldClaim): number | null {
  return mode === 'enforce' ? dropSeconds : countSeconds;
}

/** 0 = it has ended or never was, null = for ever. */
export function secondsTo(end: number, ledgerNow: number): number | null {
  if (end === forEver) return null;
  return end === never ? 0 : Math.max(0, (end - ledgerNow) / 1000);
}
