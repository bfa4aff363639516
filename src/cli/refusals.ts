/**
 * What the guard refused to a hand, written down: who wanted what, and why it was not done. The history has it where there is a
 * ledger, the audit in any case. It is refused with or without: nothing here fails.
 */
import { formatPrefix, type Prefix } from '../address/prefix.ts';
import type { Owner } from '../blocklist/claims.ts';
import type { Service } from '../blocklist/ledger/files.ts';
import { Ledger } from '../blocklist/ledger/ledger.ts';
import type { HandCause, RefuseEvent } from '../blocklist/ledger/record.ts';
import { FalcodropError } from '../errors.ts';
import type { Refusal } from '../judge/guard/guard.ts';
import { Audit } from '../observe/audit.ts';
import { type Call, stateDirOf, text } from './call.ts';
import { type Hand, identify } from './hand.ts';
import { becomeOwner } from './ledger.ts';

export interface Refused {
  readonly target: Prefix;
  readonly refusal: Refusal;
}

export interface Refusals {
  /** The first of them; of those that are told in one row not all are needed. */
  readonly refused: readonly Refused[];
  /** How many there were. */
  readonly count: number;
  /** In whose name. */
  readonly owner: Owner;
  /** They are lines of a file: one row, however many. */
  readonly isOfFile?: boolean;
}

/** Rows of one command: of more the history has one, with their number. */
const mostRows = 20;

/** Targets that are named in a row of several. */
export const mostNamed = 5;

/** `hand`: what is open already; null: nothing is, and a root hand becomes the service for good before it reads the ledger. */
export function recordRefusals(call: Call, hand: Hand | null, refusals: Refusals): void {
  if (refusals.count === 0) return;
  const who = identify(call);
  const cause: HandCause = { kind: 'hand', hand: who, reason: text(call, 'reason') ?? null };
  const events = eventsOf(refusals, cause);
  const service = hand?.service ?? becomeOwner(call);
  const audit = new Audit({ stateDir: stateDirOf(call.environment), service });
  const ledger = hand === null ? open(call, service, audit) : hand.ledger;
  if (ledger === null || !apply(ledger, events)) for (const event of events) audit.tellUnwritten(event);
  if (hand === null) ledger?.close();
  void audit.close();
}

function eventsOf({ refused, count, owner, isOfFile = false }: Refusals, cause: HandCause): RefuseEvent[] {
  if (count <= (isOfFile ? 1 : mostRows)) {
    return refused.map(({ target, refusal }) => {
      const detail = `${refusal.reason}: ${refusal.detail}`;
      return { kind: 'refuse', target, owner, detail, cause };
    });
  }
  const named = refused.slice(0, mostNamed).map(({ target, refusal }) => `${formatPrefix(target)} (${refusal.reason})`);
  const more = count === named.length ? '' : ` and ${count - named.length} more`;
  const detail = `${named.join(', ')}${more}`;
  return [{ kind: 'refuse', target: null, count, owner, detail, cause }];
}

/** False: it can not be written. The ledger tells the audit of what it can. */
function apply(ledger: Ledger, events: readonly RefuseEvent[]): boolean {
  try {
    ledger.apply(events);
    return true;
  } catch (error) {
    if (error instanceof FalcodropError) return false;
    throw error;
  }
}

/** Null where there is none to be had. */
function open(call: Call, service: Service, audit: Audit): Ledger | null {
  try {
    return Ledger.open(stateDirOf(call.environment), {
      service,
      create: false,
      onApplied: (...applied) => audit.tell(...applied),
    });
  } catch (error) {
    if (error instanceof FalcodropError) return null;
    throw error;
  }
}
