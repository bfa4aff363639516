/** What is done with one alert: judge, act, say. In this order, and nothing in it waits. */
import { createHash } from 'node:crypto';
import { formatAddress } from '../address/address.ts';
import { hostPrefix } from '../address/prefix.ts';
import { shortText } from '../alert/text.ts';
import type { Blocklist, Wish } from '../blocklist/blocklist.ts';
import { longestAlertBytes, longestTextBytes } from '../blocklist/ledger/record.ts';
import { FalcodropError } from '../errors.ts';
import type { HostFacts } from '../judge/host-facts.ts';
import { type Decision, type JudgeState, judge, type Rules } from '../judge/judge.ts';
import type { Reason } from '../judge/reason.ts';
import type { Arrival } from '../sources/intake.ts';
import type { Clock } from '../time/clock.ts';
import type { Logger } from './log.ts';
import { Repeats } from './repeats.ts';
import { cleanText } from './text.ts';

/** What was done about a decision. `observed`: an offender, and nothing to do; `failed`: see the log. */
export type Outcome = ReturnType<Blocklist['blockAtOnce']> | 'observed' | 'failed' | null;

export interface AlertCounts {
  readonly judged: number;
  readonly blocked: number;
  readonly refused: number;
  readonly ignored: number;
  /** The map did not take it. */
  readonly failed: number;
  /** Errors of ours while judging. */
  readonly errors: number;
}

export interface AlertOptions {
  readonly facts: () => HostFacts;
  readonly rules: Rules;
  readonly state: JudgeState;
  readonly blocklist: Pick<Blocklist, 'blockAtOnce'>;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Called after an entry was written that is not acknowledged yet. */
  readonly onWritten: () => void;
  /** Told of every decision, in the same turn. */
  readonly onDecided?: (arrival: Arrival, decision: Decision, outcome: Outcome) => void;
}

export interface Alerts {
  /** Why it was decided so; null = an error of ours. Never throws. */
  readonly take: (arrival: Arrival) => Reason | null;
  readonly counts: () => AlertCounts;
  /** Says what was left out since the last time, and stops the timer. */
  readonly endPeriod: () => void;
}

const periodMs = 60_000;

/** UTF-16 units that are logged of an alert's texts. */
const longest = { rule: 128, detail: 300, hostname: 64 };

/**
 * Lines a period for the same refusal or error, and for the same offender that is blocked again. A new block is always
 * said: the log is the record of it.
 */
const often = { refusal: 1, error: 1, again: 100 };

export function openAlerts(options: AlertOptions): Alerts {
  const { facts, rules, state, blocklist, logger, clock, onWritten, onDecided } = options;
  const counts = { judged: 0, blocked: 0, refused: 0, ignored: 0, failed: 0, errors: 0 };
  const repeats = new Repeats();
  // Apart, so that a flood of offenders cannot push the one line about a full map out.
  const errors = new Repeats();
  let period: NodeJS.Timeout | null = null;

  const endPeriod = (): void => {
    if (period !== null) clearTimeout(period);
    period = null;
    for (const { cause, times } of repeats.endPeriod()) logger.info({ cause, times }, 'repeated');
    for (const { cause, times } of errors.endPeriod()) logger.error({ cause, times }, 'repeated');
  };
  const isNews = (of: Repeats, cause: string, most: number): boolean => {
    period ??= setTimeout(endPeriod, periodMs);
    return of.isNews(cause, most);
  };

  const hashes = new Map(rules.policies.map((policy) => [policy.name, hashOf(JSON.stringify(policy))]));

  const act = (arrival: Arrival, decision: Decision): Outcome => {
    const wish = wishOf(arrival, decision, hashes);
    if (wish === null) return decision.verdict === 'block' ? 'observed' : null;
    try {
      const status = blocklist.blockAtOnce(wish);
      counts.blocked++;
      if (status !== 'unchanged') onWritten();
      return status;
    } catch (error) {
      counts.failed++;
      const code = error instanceof FalcodropError ? error.code : 'failed';
      if (isNews(errors, `block failed: ${code}`, often.error)) logger.error(describe(error), 'block failed');
      return 'failed';
    }
  };

  const say = (arrival: Arrival, decision: Decision, outcome: Outcome, doneNs: bigint): void => {
    const rule = cleanText(decision.rule, longest.rule);
    const offender = decision.offender === null ? null : formatAddress(decision.offender);
    const what = outcome === null ? `${decision.verdict} ${decision.reason}` : outcome;
    const cause = `${what}: ${rule}${offender === null ? '' : ` (${offender})`}`;
    const isActed = outcome !== null && outcome !== 'observed';
    if (outcome !== 'blocked' && !isNews(repeats, cause, isActed ? often.again : often.refusal)) return;
    logger.info(
      {
        rule,
        offender,
        verdict: decision.verdict,
        action: decision.action,
        applied: decision.applied,
        outcome,
        reason: decision.reason,
        detail: cleanText(decision.detail, longest.detail),
        policy: decision.policy,
        ends: isActed && outcome !== 'failed' ? endOf(decision.seconds, clock.now()) : null,
        hostname: arrival.alert.hostname === null ? null : cleanText(arrival.alert.hostname, longest.hostname),
        source: arrival.source.name,
        usFromReceived: Number(doneNs - arrival.receivedNs) / 1000,
      },
      'decision',
    );
  };

  return {
    take: (arrival) => {
      counts.judged++;
      try {
        const decision = judge(arrival.alert, facts(), rules, state, clock.now(), arrival.source);
        const outcome = act(arrival, decision);
        const doneNs = process.hrtime.bigint();
        if (decision.verdict === 'refuse') counts.refused++;
        if (decision.verdict === 'ignore') counts.ignored++;
        say(arrival, decision, outcome, doneNs);
        onDecided?.(arrival, decision, outcome);
        return decision.reason;
      } catch (error) {
        counts.errors++;
        const alert = hashOf(arrival.text);
        const message = cleanText(error instanceof Error ? error.message : String(error), longest.detail);
        if (isNews(errors, `alert not judged: ${message}`, often.error)) {
          logger.error({ alert, source: arrival.source.name, ...describe(error) }, 'alert not judged');
        }
        return null;
      }
    },
    counts: () => ({ ...counts }),
    endPeriod,
  };
}

/** Null when nothing is to be set in the kernel. */
function wishOf(
  { alert, text }: Arrival,
  { applied, offender, policy, seconds, rule }: Decision,
  hashes: ReadonlyMap<string, string>,
): Wish | null {
  if (offender === null || (applied !== 'enforce' && applied !== 'monitor')) return null;
  return {
    target: hostPrefix(offender),
    owner: `policy:${policy ?? 'none'}`,
    mode: applied,
    seconds,
    cause: {
      kind: 'alert',
      id: alert.uuid === null ? hashOf(text) : shortText(alert.uuid, longestTextBytes),
      rule: cleanText(rule, longest.rule),
      priority: shortText(alert.priority, longestTextBytes),
      hostname: alert.hostname === null ? null : shortText(alert.hostname, longestTextBytes),
      timeMs: alert.timeNs === null ? null : Number(alert.timeNs / 1_000_000n),
      policy,
      policyHash: policy === null ? null : (hashes.get(policy) ?? null),
      // What waits for the disk may be much.
      alert: shortText(text, longestAlertBytes),
    },
  };
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** RFC 3339, UTC; null = for ever. */
function endOf(seconds: number | null, nowMs: number): string | null {
  return seconds === null ? null : new Date(nowMs + seconds * 1000).toISOString();
}

/** An error as the log tells it; the stack only of what is no known error. */
export function describe(error: unknown): Record<string, unknown> {
  if (error instanceof FalcodropError) {
    return { code: error.code, error: cleanText(error.message, 500), hint: error.hint ?? null };
  }
  if (!(error instanceof Error)) return { error: cleanText(String(error), 500) };
  return { error: cleanText(error.message, 500), stack: cleanText(error.stack ?? '', 2_000) };
}
