/** The one grammar of filters: list, unblock, history, export and undo read the same words. */
import { type Prefix, parsePrefix } from '../address/prefix.ts';
import type { Claim, OwnerFilter } from '../blocklist/ledger/record.ts';
import { FalcodropError } from '../errors.ts';
import { parseMoment } from '../time/moment.ts';
import { type Call, text } from './call.ts';

export const sorts = ['address', 'packets', 'bytes', 'end', 'begin'] as const;
export type Sort = (typeof sorts)[number];

export interface Filters {
  readonly within?: Prefix;
  readonly owner?: OwnerFilter;
  readonly rule?: string;
  /** ms since 1970; since included, until excluded. */
  readonly since?: number;
  readonly until?: number;
  readonly mode?: 'enforce' | 'monitor';
  readonly sort?: Sort;
  readonly limit?: number;
}

const ownerForm = /^(?:hand|policy|feed|(?:policy|feed):[^\p{C}\s]{1,64})$/u;

/** Throws `usage`, `address_invalid`, `prefix_host_bits`, `time_invalid`. */
export function readFilters(call: Call): Filters {
  const nowMs = call.clock.now();
  const read = <T>(name: string, parse: (given: string) => T): T | undefined => {
    const given = text(call, name);
    return given === undefined ? undefined : parse(given);
  };
  const since = read('since', (given) => parseMoment(given, nowMs));
  const until = read('until', (given) => parseMoment(given, nowMs));
  if (since !== undefined && until !== undefined && since >= until) {
    throw new FalcodropError('usage', '--since is not before --until', 'nothing can lie between them: swap them');
  }
  const filters = {
    within: read('within', parsePrefix),
    owner: read('owner', parseOwner),
    rule: read('rule', parseRule),
    since,
    until,
    mode: read('mode', (given) => given as 'enforce' | 'monitor'),
    sort: read('sort', (given) => given as Sort),
    limit: read('limit', parseLimit),
  };
  return Object.fromEntries(Object.entries(filters).filter(([, value]) => value !== undefined)) as Filters;
}

/** Whether it names anything; order and number alone do not. */
export function names(filters: Filters): boolean {
  const { sort: _, limit: __, ...rest } = filters;
  return Object.keys(rest).length > 0;
}

/** True when only the ledger can answer: the kernel holds kinds of owners, no names, rules or beginnings. */
export function needsLedger({ owner, rule, since, until, sort }: Filters): boolean {
  return (
    owner?.includes(':') === true ||
    rule !== undefined ||
    since !== undefined ||
    until !== undefined ||
    sort === 'begin'
  );
}

export function ownerMatches(owner: string, filter: OwnerFilter | undefined): boolean {
  return filter === undefined || owner === filter || owner.startsWith(`${filter}:`);
}

/** What of a claim is compared; times in ms since 1970. */
export interface Comparable {
  readonly owner: string;
  readonly mode: 'enforce' | 'monitor';
  /** null: not known. */
  readonly begunMs: number | null;
  readonly rule: string | null;
}

export function claimMatches(claim: Comparable, { owner, mode, rule, since, until }: Filters): boolean {
  const { begunMs } = claim;
  return (
    ownerMatches(claim.owner, owner) &&
    (mode === undefined || claim.mode === mode) &&
    (rule === undefined || claim.rule === rule) &&
    (since === undefined || (begunMs !== null && begunMs >= since)) &&
    (until === undefined || (begunMs !== null && begunMs < until))
  );
}

/** What a live claim does now. */
export function modeOf({ dropEnd }: Pick<Claim, 'dropEnd'>, ledgerNow: number): 'enforce' | 'monitor' {
  return ledgerNow < dropEnd ? 'enforce' : 'monitor';
}

function parseOwner(given: string): OwnerFilter {
  if (ownerForm.test(given)) return given as OwnerFilter;
  throw new FalcodropError(
    'usage',
    `${JSON.stringify(given.slice(0, 80))} is no owner`,
    'write hand, policy, policy:NAME, feed or feed:NAME',
  );
}

function parseRule(given: string): string {
  if (given !== '') return given;
  throw new FalcodropError(
    'usage',
    '--rule is empty',
    'write the rule’s name as Falco has it, e.g. --rule "Netcat Remote Code Execution in Container"',
  );
}

function parseLimit(given: string): number {
  if (/^[1-9]\d{0,8}$/.test(given)) return Number(given);
  throw new FalcodropError('usage', '--limit must be a number from 1 on', 'leave it out for all of them');
}
