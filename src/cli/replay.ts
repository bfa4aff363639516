/** `falcodrop replay FILE|-`: what `run` would have decided, each alert judged at its own time. Changes nothing. */
import { existsSync } from 'node:fs';
import { formatAddress } from '../address/address.ts';
import { parsePrefix } from '../address/prefix.ts';
import { prefixSet } from '../address/set.ts';
import { type Alert, parseAlert } from '../alert/alert.ts';
import { defaultConfigPath } from '../config/path.ts';
import { attachedIfindexes } from '../host/attached.ts';
import { readHostFacts } from '../host/facts.ts';
import { loopback, unspecified } from '../judge/guard/ranges.ts';
import type { HostFacts } from '../judge/host-facts.ts';
import { type Decision, defaultRules, judge, type Rules } from '../judge/judge.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { type Call, text } from './call.ts';
import { openInput, unreadable } from './input.ts';
import { linesOf } from './lines.ts';
import { plural } from './output/amount.ts';
import { clean } from './output/clean.ts';
import { type Colour, paint } from './output/colour.ts';
import { hasOverrides, namedConfig, readConfig } from './settings.ts';

interface Judging {
  readonly rules: Rules;
  readonly hostAliases: readonly string[];
}

export async function replay(call: Call): Promise<void> {
  const { answer } = call;
  const own = text(call, 'own');
  const given = own === undefined ? null : parseOwn(own);
  const input = openInput(call.operands[0] ?? '-');
  const { rules, hostAliases } = await readJudging(call);
  const host =
    given ?? readHostFacts({ attachedIfindexes: attachedIfindexes(pinDirOf(call.environment)), aliases: hostAliases });

  const tally = newTally();
  if (!answer.json)
    answer.line(paint(rowOf(['N', 'VERDICT', 'ACTION', 'OFFENDER', 'REASON', 'RULE']), 'dim', answer.colour));
  try {
    for await (const line of linesOf(input)) {
      const alert =
        line.text === null ? { problem: 'it is longer than an alert may be' } : parseAlert(line.text, 'local');
      if ('problem' in alert) {
        tally.others++;
        answer.warn('body_not_alert', `line ${line.n} (counted from 0) is no alert: ${alert.problem}`);
        continue;
      }
      const decision = decide(alert, host, rules);
      count(tally, decision);
      if (answer.json) answer.object(decisionObject(line.n, decision));
      else answer.line(row(line.n, decision, answer.colour));
      if (answer.full) await answer.flush();
      if (answer.closed) return;
    }
  } catch (error) {
    throw unreadable(call.operands[0] ?? '-', error);
  }
  if (!answer.json) for (const line of summary(tally)) answer.line(line);
}

/** `a,b,c`: own addresses and prefixes instead of this host's facts. Every host name is ours; there is nothing else. */
function parseOwn(list: string): HostFacts {
  const own = list
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map(parsePrefix);
  const none = prefixSet([]);
  return {
    names: null,
    own: prefixSet([...own, ...loopback.prefixes, ...unspecified.prefixes]),
    containers: none,
    broadcasts: none,
    gateways: none,
    resolvers: none,
    sessions: none,
  };
}

/** Reading YAML is spared where there is none. */
async function readJudging(call: Call): Promise<Judging> {
  const named = namedConfig(call);
  if (named === undefined && !existsSync(defaultConfigPath) && !hasOverrides(call.environment)) {
    return { rules: defaultRules, hostAliases: [] };
  }
  const config = await readConfig(call);
  return { rules: config.rules, hostAliases: config.hostAliases };
}

function decide(alert: Alert, host: HostFacts, rules: Rules): Decision {
  const nowMs = Number((alert.timeNs ?? 0n) / 1_000_000n);
  return judge(alert, host, rules, { automatic: 'enforce' }, nowMs);
}

/** Exactly these keys; `action` is the policy's own, whatever automatic blocks may do. */
function decisionObject(n: number, { rule, offender, verdict, action, reason }: Decision) {
  return { n, rule, offender: offender === null ? null : formatAddress(offender), verdict, action, reason };
}

/** N, verdict, action, offender, reason, rule. Fixed, for a recording of any length is shown as it is read. */
const widths = [6, 7, 7, 22, 13, 0] as const;

function rowOf(cells: readonly string[]): string {
  return cells.map((cell, index) => (index === 0 ? cell.padStart(6) : cell.padEnd(widths[index] ?? 0))).join('  ');
}

const colourOf: Readonly<Record<Decision['verdict'], Colour | null>> = {
  block: 'red',
  refuse: 'yellow',
  ignore: 'dim',
};

function row(n: number, { verdict, action, offender, reason, rule }: Decision, colour: boolean): string {
  const address = offender === null ? '-' : formatAddress(offender);
  const cells = [String(n), verdict, action ?? '-', address, reason, clean(rule, 60)];
  return paint(rowOf(cells), colourOf[verdict], colour);
}

interface Tally {
  readonly verdicts: Record<Decision['verdict'], number>;
  readonly actions: Record<NonNullable<Decision['action']>, number>;
  readonly offenders: Set<string>;
  readonly refusals: Map<string, number>;
  others: number;
}

function newTally(): Tally {
  return {
    verdicts: { block: 0, refuse: 0, ignore: 0 },
    actions: { enforce: 0, monitor: 0, observe: 0 },
    offenders: new Set(),
    refusals: new Map(),
    others: 0,
  };
}

function count(tally: Tally, { verdict, action, offender, reason }: Decision): void {
  tally.verdicts[verdict]++;
  if (action !== null) tally.actions[action]++;
  if (verdict === 'block' && offender !== null) tally.offenders.add(formatAddress(offender));
  if (verdict === 'refuse') tally.refusals.set(reason, (tally.refusals.get(reason) ?? 0) + 1);
}

function* summary({ verdicts, actions, offenders, refusals, others }: Tally): Generator<string> {
  const why = [...refusals].sort(([, a], [, b]) => b - a).map(([reason, times]) => `${reason} ${times}`);
  yield '';
  const alerts = verdicts.block + verdicts.refuse + verdicts.ignore;
  yield `${plural(alerts, 'alert')}; ${others} ${others === 1 ? 'line was' : 'lines were'} none`;
  yield `block   ${verdicts.block}: ${plural(offenders.size, 'offender')} (enforce ${actions.enforce}, monitor ${actions.monitor}, observe ${actions.observe})`;
  yield `refuse  ${verdicts.refuse}${why.length === 0 ? '' : `: ${why.join(', ')}`}`;
  yield `ignore  ${verdicts.ignore}`;
  if (refusals.has('other_host')) yield 'for a recording of another host say whose addresses are its own: --own';
}
