/** `falcodrop unblock TARGET…|--all` */
import { comparePrefixes, formatPrefix, type Prefix } from '../address/prefix.ts';
import type { Entry } from '../blocklist/blocklist.ts';
import { FalcodropError } from '../errors.ts';
import { type Call, flag, isRoot, stateDirOf } from './call.ts';
import { widerDrop } from './circumstance.ts';
import { failureOf } from './failure.ts';
import { removeForced } from './forced.ts';
import { openHand } from './hand.ts';
import { amount } from './output/amount.ts';
import { untilText } from './output/entry.ts';
import { ask } from './question.ts';
import { parseTargets } from './target.ts';

export async function unblockTargets(call: Call): Promise<void> {
  const all = flag(call, 'all');
  const targets = parseTargets(call.operands);
  if (all && targets.length > 0) {
    throw new FalcodropError('usage', '--all and targets exclude each other', 'name the targets, or say --all alone');
  }
  if (!all && targets.length === 0) {
    throw new FalcodropError('usage', 'nothing was named to unblock', 'falcodrop unblock TARGET…, or --all');
  }
  if (all) await unblockAll(call);
  else await unblockNamed(call, targets);
}

async function unblockNamed(call: Call, targets: readonly Prefix[]): Promise<void> {
  const { answer, clock } = call;
  // Before the hand becomes the service: what root unblocks is forced no more.
  if (isRoot()) removeForced(stateDirOf(call.environment), targets);
  const hand = openHand(call);
  const { blocklist } = hand;
  try {
    for (const target of targets) {
      try {
        const { before: entry } = await blocklist.unblock(target, { cause: hand.because(null) });
        const wider = widerDrop(blocklist, target);
        if (entry === null || entry.state === 'ended') throw notBlocked(target, entry, wider);
        tell(call, entry, wider, clock.now());
      } catch (error) {
        answer.fail(failureOf(error, call.verb));
      }
      await answer.flush();
    }
  } finally {
    hand.close();
  }
}

async function unblockAll(call: Call): Promise<void> {
  const { answer, clock } = call;
  const hand = openHand(call);
  const { blocklist } = hand;
  try {
    const targets = Array.from(blocklist.entries(), ({ target }) => target).sort(comparePrefixes);
    await ask(call, `End all ${targets.length} blocks?`);
    let ended = 0;
    for (const target of targets) {
      const { before: entry } = await blocklist.unblock(target, { cause: hand.because(null) });
      if (entry === null || entry.state === 'ended') continue;
      ended++;
      if (answer.json) tell(call, entry, null, clock.now());
      if (answer.full) await answer.flush();
    }
    if (!answer.json)
      answer.line(ended === 0 ? 'nothing was blocked' : `${ended} ${ended === 1 ? 'block' : 'blocks'} ended`);
  } finally {
    hand.close();
  }
}

function tell(call: Call, entry: Entry, wider: Entry | null, nowMs: number): void {
  const { answer } = call;
  const target = formatPrefix(entry.target);
  const widerName = wider === null ? null : formatPrefix(wider.target);
  if (answer.json) {
    answer.object({
      target,
      status: 'unblocked',
      packets: entry.packets,
      bytes: entry.bytes,
      still_dropped_by: widerName,
    });
    return;
  }
  const met = entry.packets === 0 ? '' : `, after ${amount(entry.packets)} packets (${amount(entry.bytes)} bytes)`;
  answer.line(`${target} unblocked${met}`);
  if (wider !== null) answer.note(`${widerName} still drops it ${untilText(wider.dropSeconds, nowMs)}`);
}

function notBlocked(target: Prefix, entry: Entry | null, wider: Entry | null): FalcodropError {
  const name = formatPrefix(target);
  const message = entry === null ? `${name} is not blocked` : `${name} is not blocked: its block had ended`;
  if (wider === null) return new FalcodropError('not_blocked', message, 'falcodrop list tells what is');
  const widerName = formatPrefix(wider.target);
  return new FalcodropError(
    'not_blocked',
    `${name} has no block of its own: ${widerName} still drops it`,
    `falcodrop unblock ${widerName}`,
  );
}
