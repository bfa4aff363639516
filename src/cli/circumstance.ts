/** What stands between a block and its effect: the global mode, no interface, an allow, a wider block. */
import { formatPorts } from '../address/port.ts';
import { covers, formatPrefix, type Prefix } from '../address/prefix.ts';
import { prefixSet } from '../address/set.ts';
import type { Blocklist, Entry } from '../blocklist/blocklist.ts';
import { FalcodropError } from '../errors.ts';
import { type Allow, coveringAllows, readAllows } from '../kernel/allows.ts';
import { type Attachment, attachments } from '../kernel/attach.ts';
import { monotonicNs } from '../kernel/clock.ts';
import { type ModeNow, modeNow } from '../kernel/mode.ts';
import { portsAt } from '../kernel/scopes.ts';
import type { PinnedSet } from '../kernel/set.ts';
import type { Note } from './output/answer.ts';
import { untilText } from './output/entry.ts';

/** None for who may not read the allows: the service's group may. */
export function allowsOver(set: PinnedSet, target: Prefix): Allow[] {
  try {
    return coveringAllows(set, target);
  } catch (error) {
    if (error instanceof FalcodropError && error.code === 'not_permitted') return [];
    throw error;
  }
}

/** The same for many targets, at one moment: what allows a target whole, or null. */
export function allowFinder(set: PinnedSet): (target: Prefix) => Prefix | null {
  let live: Prefix[];
  try {
    const now = monotonicNs();
    live = readAllows(set)
      .filter(({ until }) => now < until)
      .map(({ prefix }) => prefix);
  } catch (error) {
    if (error instanceof FalcodropError && error.code === 'not_permitted') return () => null;
    throw error;
  }
  const index = prefixSet(live);
  return (target) => {
    const found = index.covering(target.address);
    if (found === null || found.length <= target.length) return found;
    return live.find((each) => covers(each, target)) ?? null;
  };
}

export function modeText({ mode, seconds, after }: ModeNow, nowMs: number): string {
  return seconds === null || after === null ? mode : `${mode} ${untilText(seconds, nowMs)}, then ${after}`;
}

/** Of all blocks. */
export function generalNotes(set: PinnedSet, attached: readonly Attachment[], nowMs: number): Note[] {
  const notes: Note[] = [];
  const mode = modeNow(set.settings);
  if (mode.mode !== 'enforce') {
    notes.push({
      code: `mode_${mode.mode}`,
      message: `the global mode is ${modeText(mode, nowMs)}: nothing is dropped now`,
    });
  }
  if (attached.length === 0) {
    const message = 'no interface is attached: nothing is dropped until one is (falcodrop attach IF)';
    notes.push({ code: 'nothing_attached', message });
  }
  return notes;
}

/** Of this one target. */
export function targetNotes(blocklist: Blocklist, target: Prefix, nowMs: number): Note[] {
  const text = formatPrefix(target);
  const notes: Note[] = [];
  const wider = widerDrop(blocklist, target);
  if (wider !== null) {
    const until = untilText(wider.dropSeconds, nowMs);
    notes.push({
      code: 'under_wider_block',
      message: `${text} lies in ${formatPrefix(wider.target)}, which is dropped${limitText(blocklist.set, wider)} ${until}`,
    });
  }
  const [allow] = allowsOver(blocklist.set, target);
  if (allow !== undefined) {
    const until = untilText(allow.seconds, nowMs);
    notes.push({
      code: 'allowed',
      message: `${formatPrefix(allow.prefix)} is allowed ${until}, and an allow outranks blocks: ${text} passes`,
    });
  }
  return notes;
}

/** The longest wider prefix that drops what comes from the target, one that drops all of it before others; or null. */
export function widerDrop(blocklist: Blocklist, target: Prefix): Entry | null {
  const wider = blocklist
    .covering(target)
    .filter((entry) => entry.target.length < target.length && entry.state === 'enforce');
  return wider.find(({ scope }) => scope === 0) ?? wider[0] ?? null;
}

/** ` to tcp/22 only`; empty where an entry is limited to no ports. */
export function limitText(set: PinnedSet, { scope }: Entry): string {
  const ports = portsAt(set, scope);
  return ports.length === 0 ? '' : ` to ${formatPorts(ports)} only`;
}

/** None where nothing was ever attached with this pin directory. */
export function attachedHere(pinDir: string): Attachment[] {
  try {
    return attachments(pinDir);
  } catch (error) {
    if (error instanceof FalcodropError && error.code === 'pin_dir_missing') return [];
    throw error;
  }
}
