/** `falcodrop show ADDRESS|CIDR`: what the XDP program would do with its packets now, and why. */
import { formatPorts } from '../address/port.ts';
import { covers, formatPrefix, isHost, type Prefix } from '../address/prefix.ts';
import type { Entry } from '../blocklist/blocklist.ts';
import { FalcodropError } from '../errors.ts';
import type { Allow } from '../kernel/allows.ts';
import type { Attachment } from '../kernel/attach.ts';
import { type ModeNow, modeNow } from '../kernel/mode.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { portsAt } from '../kernel/scopes.ts';
import { type Block, claimsOn } from './blocks.ts';
import type { Call } from './call.ts';
import { allowsOver, attachedHere, modeText } from './circumstance.ts';
import { openHand } from './hand.ts';
import type { Answer } from './output/answer.ts';
import { blockColumns, blockObject, blockRows } from './output/block.ts';
import { clean } from './output/clean.ts';
import { endAt, secondsOfState, untilText, wholeSeconds } from './output/entry.ts';
import { table } from './output/table.ts';
import { parseTargets } from './target.ts';

/**
 * `dropped`; `counted`: watched, or the global mode is monitor; `allowed`: an allow outranks; `off`: the global mode is
 * off; `not_attached`; `not_blocked`: no live entry that the XDP program would find.
 */
export type ShowVerdict = 'dropped' | 'counted' | 'allowed' | 'off' | 'not_attached' | 'not_blocked';

export interface Sight {
  readonly target: Prefix;
  /** Live ones that hold the target whole, the most exact first. */
  readonly entries: readonly Entry[];
  readonly allows: readonly Allow[];
  readonly mode: ModeNow;
  readonly attached: readonly Attachment[];
  /** False: nobody said that there are prefixes of this family, and the XDP program does not look for any. */
  readonly looksAtPrefixes: boolean;
  /** What entries are limited to, of those that are. */
  readonly limits: ReadonlyMap<Entry, string>;
  /** Entries inside a prefix that is asked about. */
  readonly inside: number;
}

export async function showTarget(call: Call): Promise<void> {
  const { answer, clock } = call;
  const [target] = parseTargets(call.operands);
  if (target === undefined) throw new FalcodropError('usage', 'nothing was named to show');
  const { sight, blocks } = look(call, target);
  const nowMs = clock.now();
  const { verdict, by } = decide(sight);
  if (answer.json) {
    answer.object({
      target: formatPrefix(target),
      verdict,
      decided_by: by === null ? null : formatPrefix(by.target),
      mode: sight.mode.mode,
      entries: blocks.map((block) => ({ ...blockObject(block, nowMs), seen_by_xdp: isSeen(sight, block.entry) })),
      entries_inside: sight.inside,
      allows: sight.allows.map(({ prefix, seconds }) => ({
        prefix: formatPrefix(prefix),
        ends_at: endAt(seconds, nowMs),
        ends_in_seconds: wholeSeconds(seconds),
      })),
      interfaces: sight.attached.map(({ name }) => name),
    });
  } else {
    for (const line of describe(sight, blocks, verdict, by, nowMs, answer)) answer.line(line);
  }
  if (verdict === 'not_blocked') {
    const inside = sight.inside === 0 ? undefined : `${insideText(sight.inside)} inside it: falcodrop list`;
    // For people the sentence stands in the answer already.
    if (answer.json) answer.fail(new FalcodropError('not_blocked', `${formatPrefix(target)} is not blocked`, inside));
    else answer.worsen(4);
  }
}

function look(call: Call, target: Prefix): { readonly sight: Sight; readonly blocks: readonly Block[] } {
  const pinDir = pinDirOf(call.environment);
  const hand = openHand(call);
  try {
    const { blocklist, ledger } = hand;
    const { set } = blocklist;
    let inside = 0;
    if (!isHost(target)) {
      for (const entry of blocklist.entries()) {
        if (entry.state !== 'ended' && entry.target.length > target.length && covers(target, entry.target)) inside++;
      }
    }
    const entries = blocklist.covering(target).filter((entry) => entry.state !== 'ended');
    const blocks = entries.map((entry) => ({
      entry,
      ports: portsAt(set, entry.scope),
      claims: claimsOn(ledger, entry.target),
    }));
    const sight: Sight = {
      target,
      entries,
      allows: allowsOver(set, target),
      mode: modeNow(set.settings),
      attached: attachedHere(pinDir),
      looksAtPrefixes: set.hintsPrefixes(target.address.family),
      limits: new Map(blocks.flatMap(({ entry, ports }) => (entry.scope === 0 ? [] : [[entry, formatPorts(ports)]]))),
      inside,
    };
    return { sight, blocks };
  } finally {
    hand.close();
  }
}

function isSeen({ looksAtPrefixes }: Sight, entry: Entry): boolean {
  return looksAtPrefixes || isHost(entry.target);
}

/**
 * In the XDP program's order: the allow is asked at the first live entry, the first enforcing one decides. One that is limited to
 * ports leaves the others to a wider one.
 */
export function decide(sight: Sight): { readonly verdict: ShowVerdict; readonly by: Entry | null } {
  const seen = sight.entries.filter((entry) => isSeen(sight, entry));
  const [first] = seen;
  if (first === undefined) return { verdict: 'not_blocked', by: null };
  const enforcing = seen.filter((entry) => entry.state === 'enforce');
  const by = enforcing.find((entry) => !sight.limits.has(entry)) ?? enforcing[0] ?? first;
  if (sight.attached.length === 0) return { verdict: 'not_attached', by };
  if (sight.mode.mode === 'off') return { verdict: 'off', by };
  if (sight.allows.length > 0) return { verdict: 'allowed', by };
  return { verdict: by.state === 'enforce' && sight.mode.mode === 'enforce' ? 'dropped' : 'counted', by };
}

function* describe(
  sight: Sight,
  blocks: readonly Block[],
  verdict: ShowVerdict,
  by: Entry | null,
  nowMs: number,
  { colour, width }: Pick<Answer, 'colour' | 'width'>,
): Generator<string> {
  const name = formatPrefix(sight.target);
  yield headline(sight, name, verdict, by, nowMs);
  if (sight.entries.length > 0) {
    yield '';
    const rows = () => blocks.flatMap((block) => [...blockRows(block, nowMs)]);
    yield* table(blockColumns(nowMs), rows, colour, width);
    yield '';
  }
  for (const entry of sight.entries) {
    if (isSeen(sight, entry)) continue;
    yield `${formatPrefix(entry.target)} was inserted by a foreign tool: the XDP program does not look for prefixes of this family`;
  }
  for (const { prefix, seconds } of sight.allows)
    yield `allowed   ${formatPrefix(prefix)} ${untilText(seconds, nowMs)}`;
  if (sight.inside > 0) yield `inside    ${insideText(sight.inside)}: falcodrop list`;
  yield `mode      ${modeText(sight.mode, nowMs)}`;
  const names = sight.attached.map((attachment) => `${clean(attachment.name)} (${attachment.mode})`);
  yield `attached  ${names.length === 0 ? 'nothing' : names.join(', ')}`;
}

function insideText(count: number): string {
  return count === 1 ? 'one more entry' : `${count} more entries`;
}

function headline(sight: Sight, name: string, verdict: ShowVerdict, by: Entry | null, nowMs: number): string {
  if (by === null) return `${name} is not blocked`;
  const block = formatPrefix(by.target);
  const limit = sight.limits.get(by);
  const what = `${block === name ? '' : ` by ${block}`}${limit === undefined ? '' : `, to ${limit} only,`}`;
  const until = untilText(secondsOfState(by), nowMs);
  switch (verdict) {
    case 'dropped':
      return `${name} is dropped${what} ${until}`;
    case 'counted':
      return by.state === 'enforce'
        ? `${name} is blocked${what}, but only counted: the global mode is monitor`
        : `${name} is only counted${what} (monitor) ${until}`;
    case 'allowed':
      return `${name} is blocked${what}, but passes: ${formatPrefix(sight.allows[0]?.prefix ?? by.target)} is allowed`;
    case 'off':
      return `${name} is blocked${what}, but passes: the global mode is off`;
    case 'not_attached':
      return `${name} is blocked${what} ${until}, but no interface is attached: its packets arrive`;
    case 'not_blocked':
      return `${name} is not blocked`;
  }
}
