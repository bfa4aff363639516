/** `falcodrop block TARGET…` */
import { parsePorts } from '../address/port.ts';
import { comparePrefixes, formatPrefix, type Prefix } from '../address/prefix.ts';
import type { Blocklist, BlockOutcome } from '../blocklist/blocklist.ts';
import { FalcodropError } from '../errors.ts';
import { attachedIfindexes } from '../host/attached.ts';
import { readCaller } from '../host/caller.ts';
import { readHostFacts } from '../host/facts.ts';
import { guard, type Refusal } from '../judge/guard/guard.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { portsAt } from '../kernel/scopes.ts';
import type { PinnedSet } from '../kernel/set.ts';
import { parseDuration } from '../time/duration.ts';
import { type Call, flag, isRoot, stateDirOf, text } from './call.ts';
import { attachedHere, generalNotes, limitText, targetNotes } from './circumstance.ts';
import { portsText } from './claims.ts';
import { failureOf } from './failure.ts';
import { addForced } from './forced.ts';
import { type Hand, openHand } from './hand.ts';
import { RefusedError } from './output/answer.ts';
import { endAt, entryObject, secondsOfState, untilText, wholeSeconds } from './output/entry.ts';
import { localIn } from './output/moment.ts';
import { protectAnew } from './protect.ts';
import { type Refused, recordRefusals } from './refusals.ts';
import { readHandSettings } from './settings.ts';
import { parseTargets } from './target.ts';

const defaultSeconds = 3600;

export async function blockTargets(call: Call): Promise<void> {
  const { answer, clock } = call;
  const targets = parseTargets(call.operands);
  const seconds = readSeconds(call);
  const mode = flag(call, 'monitor') ? 'monitor' : 'enforce';
  const named = text(call, 'port');
  const ports = named === undefined ? null : parsePorts(named);
  const revertAfter = readRevert(call, seconds);
  const force = flag(call, 'force');
  if (force && !isRoot()) {
    throw new FalcodropError('not_permitted', '--force is for root alone', 'sudo falcodrop block --force …');
  }
  if (force && (ports !== null || revertAfter !== null)) {
    throw new FalcodropError(
      'usage',
      '--force goes with neither --port nor --revert-after: root’s own list keeps targets and ends alone',
      'leave one of them out',
    );
  }

  const pinDir = pinDirOf(call.environment);
  const settings = await readHandSettings(call);
  const host = readHostFacts({ attachedIfindexes: attachedIfindexes(pinDir), aliases: settings.hostAliases });
  const caller = readCaller(call.environment)?.client ?? null;
  if (host.unresolvable.length > 0) {
    answer.note(`logged in over SSH from ${host.unresolvable.join(', ')}: a name, whose addresses are not protected`);
  }

  const refusals = new Map(targets.map((target) => [target, guard(target, host, settings.guard, caller)]));
  if (force && !flag(call, 'dryRun')) {
    rememberForced(call, { refusals, mode, seconds, replace: flag(call, 'replace') });
    // Gateways and name servers pass, in the kernel, unless root has blocked them by force.
    const isPassing = [...refusals.values()].some((each) => each?.reason === 'gateway' || each?.reason === 'resolver');
    if (isPassing) await protectAnew(call);
  }
  let hand: Hand | null = null;
  const refusedOnes: Refused[] = [];
  try {
    for (const [target, refusal] of refusals) {
      if (refusal !== null && !(force && refusal.forcible)) {
        answer.fail(refused(refusal));
        refusedOnes.push({ target, refusal });
        continue;
      }
      // Opened when something is to be written: what the guard refuses is refused with or without maps.
      const first = hand === null;
      hand ??= openHand(call);
      const { blocklist } = hand;
      if (flag(call, 'dryRun')) {
        foretell(call, blocklist, target, {
          mode,
          seconds: revertAfter ?? seconds,
          ports: portsText(ports ?? []),
          forced: refusal,
        });
        await answer.flush();
        continue;
      }
      let outcome: BlockOutcome;
      try {
        const wish = {
          target,
          owner: 'hand',
          mode,
          seconds: revertAfter ?? seconds,
          ...(ports === null ? {} : { ports }),
          ...(revertAfter === null ? {} : { wishedSeconds: seconds }),
          cause: hand.because(text(call, 'reason') ?? null),
        } as const;
        outcome = await blocklist.block(wish, { replace: flag(call, 'replace') });
      } catch (error) {
        answer.fail(failureOf(error, call.verb));
        continue;
      }
      const nowMs = clock.now();
      const general = first || answer.json ? generalNotes(blocklist.set, attachedHere(pinDir), nowMs) : [];
      const notes = [...general, ...targetNotes(blocklist, target, nowMs)];
      if (revertAfter !== null && outcome.status !== 'unchanged') {
        const message = `it ends by itself then; falcodrop confirm makes it last ${untilText(seconds, nowMs)}`;
        notes.unshift({ code: 'reverts', message });
      }
      if (refusal !== null) notes.unshift({ code: 'forced', message: `${refusal.detail}; forced all the same` });
      if (answer.json) {
        const { target: name, ...entry } = entryObject(outcome.entry, nowMs);
        const held = portsText(portsAt(blocklist.set, outcome.entry.scope));
        answer.object({ target: name, status: outcome.status, ...entry, ports: held, notes });
      } else {
        answer.line(sentence(target, outcome, mode, nowMs) + limitOf(blocklist.set, outcome));
        for (const { message } of notes) answer.note(message);
      }
      await answer.flush();
    }
    if (!flag(call, 'dryRun')) {
      recordRefusals(call, hand, { refused: refusedOnes, count: refusedOnes.length, owner: 'hand' });
    }
  } finally {
    hand?.close();
  }
}

/** Throws `usage`, `duration_invalid`. */
function readRevert(call: Call, seconds: number | null): number | null {
  const given = text(call, 'revertAfter');
  if (given === undefined) return null;
  const revertAfter = parseDuration(given);
  if (seconds !== null && revertAfter >= seconds) {
    throw new FalcodropError(
      'usage',
      `--revert-after ${given} is not before the end of the block`,
      'give a shorter one, or a longer --for',
    );
  }
  return revertAfter;
}

/** What the entry is limited to now: other claims may have widened it. */
function limitOf(set: PinnedSet, { entry }: BlockOutcome): string {
  const limit = limitText(set, entry);
  return limit === '' ? '' : `,${limit}`;
}

interface Wished {
  readonly mode: 'enforce' | 'monitor';
  readonly seconds: number | null;
  readonly ports: string | null;
  readonly forced: Refusal | null;
}

/** What would be done with an entry as it stands now. */
function foretell(call: Call, blocklist: Blocklist, target: Prefix, { mode, seconds, ports, forced }: Wished): void {
  const { answer, clock } = call;
  const nowMs = clock.now();
  const entry = blocklist.covering(target).find((each) => comparePrefixes(each.target, target) === 0) ?? null;
  const held = entry === null ? 0 : mode === 'enforce' ? entry.dropSeconds : entry.countSeconds;
  const isHeld = held === null || (seconds !== null && held >= seconds);
  const isLive = entry !== null && entry.state !== 'ended';
  const would = !isLive ? 'block' : flag(call, 'replace') ? 'replace' : isHeld ? 'nothing' : 'extend';
  const notes = targetNotes(blocklist, target, nowMs);
  if (forced !== null) notes.unshift({ code: 'forced', message: `${forced.detail}; it would be forced all the same` });
  const end = would === 'nothing' ? held : seconds;
  const name = formatPrefix(target);
  if (answer.json) {
    answer.object({
      ...{ target: name, would, mode, ports, ends_at: endAt(end, nowMs), ends_in_seconds: wholeSeconds(end), notes },
    });
    return;
  }
  const watch = mode === 'monitor' ? ' (monitor)' : '';
  answer.line(
    would === 'nothing'
      ? `${name} would be unchanged, ${untilText(end, nowMs)}`
      : `would ${would} ${name}${watch} ${untilText(end, nowMs)}${ports === null ? '' : `, to ${ports} only`}`,
  );
  for (const { message } of notes) answer.note(message);
}

/** In root's own list, before the hand becomes the service: a reboot would not bring them back from the ledger alone. */
function rememberForced(
  call: Call,
  {
    refusals,
    mode,
    seconds,
    replace,
  }: {
    refusals: ReadonlyMap<Prefix, Refusal | null>;
    mode: 'enforce' | 'monitor';
    seconds: number | null;
    replace: boolean;
  },
): void {
  const since = call.clock.now();
  const until = seconds === null ? null : since + seconds * 1000;
  for (const [target, refusal] of refusals) {
    if (refusal?.forcible !== true) continue;
    addForced(stateDirOf(call.environment), { target, mode, until, since }, { nowMs: since, replace });
  }
}

/** Throws `usage`, `duration_invalid`. */
function readSeconds(call: Call): number | null {
  const given = text(call, 'for');
  if (!flag(call, 'forever')) return given === undefined ? defaultSeconds : parseDuration(given);
  if (given !== undefined)
    throw new FalcodropError('usage', '--for and --forever exclude each other', 'give one of them');
  return null;
}

function refused({ reason, detail, forcible }: Refusal): FalcodropError {
  return new RefusedError(
    reason,
    `refused: ${detail}`,
    forcible ? 'root may block it all the same, with --force' : 'nobody can block loopback, not even with --force',
  );
}

function sentence(target: Prefix, { status, entry }: BlockOutcome, mode: 'enforce' | 'monitor', nowMs: number): string {
  const name = formatPrefix(target);
  if (status === 'unchanged') {
    const seconds = secondsOfState(entry);
    return `${name} unchanged, ${seconds === null ? 'for ever' : `ends ${localIn(seconds, nowMs)}`}`;
  }
  if (mode === 'monitor') {
    const watched = `${name} watched (monitor) ${untilText(entry.countSeconds, nowMs)}`;
    if (entry.state === 'monitor') return `${watched}, nothing is dropped`;
    return `${watched}; until its block ends it is dropped: ${untilText(entry.dropSeconds, nowMs)}`;
  }
  const seconds = entry.dropSeconds;
  switch (status) {
    case 'blocked':
      return `${name} blocked ${untilText(seconds, nowMs)}`;
    case 'extended':
      return `${name} extended ${seconds === null ? 'for ever' : `to ${localIn(seconds, nowMs)}`}`;
    case 'replaced':
      return `${name} replaced: ${seconds === null ? 'for ever' : `ends ${localIn(seconds, nowMs)}`}`;
  }
}
