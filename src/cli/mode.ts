/**
 * `falcodrop mode enforce|monitor|off`: root's switch for every block at once. `off` is the panic switch: it needs the pinned
 * `settings` and nothing else, no ledger, no configuration, no daemon, no block map that can be read.
 */
import { FalcodropError } from '../errors.ts';
import { fault } from '../fault.ts';
import { type Mode, type ModeNow, modeNow, withMode } from '../kernel/mode.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { blockMapNames, PinnedSet } from '../kernel/set.ts';
import { changeSettings, lockRoot, rootPatienceMs, type SettingsChange } from '../kernel/settings.ts';
import { parseDuration } from '../time/duration.ts';
import { forgetBoots } from './breakglass.ts';
import { type Call, isRoot, stateDirOf, text } from './call.ts';
import { clearGlass } from './glass.ts';
import type { Note } from './output/answer.ts';
import { endAt, untilText, wholeSeconds } from './output/entry.ts';

const modes = ['enforce', 'monitor', 'off'] as const satisfies readonly Mode[];

/** Who presses the panic switch does not wait for another of root's verbs, which may hang. */
const panicPatienceMs = 1_000;

export async function setMode(call: Call): Promise<void> {
  const [word = '', ...rest] = call.operands;
  const mode = modes.find((each) => each === word);
  if (mode === undefined || rest.length > 0) {
    throw new FalcodropError(
      'usage',
      `${JSON.stringify([word, ...rest].join(' ').slice(0, 40))} is no mode`,
      'it is enforce, monitor or off',
    );
  }
  const given = text(call, 'revertAfter');
  const revertAfter = given === undefined ? null : parseDuration(given);
  if (!isRoot()) {
    throw new FalcodropError(
      'not_permitted',
      '"falcodrop mode" switches all drops, which is root\'s part',
      `sudo falcodrop mode ${mode}`,
    );
  }
  const pinDir = pinDirOf(call.environment);
  const notes: Note[] = [];
  const { before, after } = await change(pinDir, mode, revertAfter, notes);
  fault('mode.set');
  const was = modeNow(before);
  const is = modeNow(after);
  notes.push(...pendingNotes(was, is, mode, revertAfter, call.clock.now()));
  if (mode === 'enforce' && revertAfter === null) notes.push(...forget(call));
  // A hand's now: no attach takes it back.
  clearGlass(stateDirOf(call.environment));
  tell(call, { was, is, changed: after !== before, blocks: countBlocks(pinDir), notes });
  await call.answer.flush();
  await audit(call, was, is);
}

async function change(pinDir: string, mode: Mode, revertAfter: number | null, notes: Note[]): Promise<SettingsChange> {
  let lock: Awaited<ReturnType<typeof lockRoot>> | null = null;
  try {
    lock = await lockRoot(pinDir, mode === 'off' ? panicPatienceMs : rootPatienceMs);
  } catch (error) {
    if (mode !== 'off' || !(error instanceof FalcodropError) || error.code !== 'lock_busy') throw error;
    notes.push({ code: 'lock_busy', message: `${error.message}; the mode was set all the same` });
  }
  try {
    return changeSettings(pinDir, (settings) => withMode(settings, { mode, revertAfter }));
  } finally {
    lock?.release();
  }
}

/** What became of what was pending, and of what was asked for. */
function pendingNotes(was: ModeNow, is: ModeNow, mode: Mode, revertAfter: number | null, nowMs: number): Note[] {
  const notes: Note[] = [];
  if (is.after !== null) {
    const kept = revertAfter === null ? ', as was asked for before' : '';
    const message = `it goes back to ${is.after} ${untilText(is.seconds, nowMs).replace('until', 'at')}${kept}, unless: falcodrop confirm`;
    notes.push({ code: 'reverts', message });
  } else if (revertAfter !== null) {
    notes.push({
      code: 'reverts_to_nothing',
      message: `there is no other mode to go back to: ${mode} it was, and stays`,
    });
  } else if (was.after !== null && was.after !== mode) {
    notes.push({ code: 'stays', message: `it does not go back to ${was.after} any more` });
  }
  return notes;
}

/** Boots that broke the glass would have the next attach monitor again. */
function forget(call: Call): Note[] {
  try {
    if (!forgetBoots({ stateDir: stateDirOf(call.environment), nowMs: call.clock.now() })) return [];
    return [
      { code: 'boots_forgotten', message: 'the starts before this one are forgotten: the next attach enforces, too' },
    ];
  } catch {
    return []; // whatever is wrong with the state directory, the mode is set
  }
}

interface BlockCount {
  /** Entries that would drop, and those that only count. */
  readonly enforcing: number;
  readonly monitoring: number;
}

/** Null: the block maps can not be read, which is no reason not to switch. */
function countBlocks(pinDir: string): BlockCount | null {
  let set: PinnedSet | null = null;
  try {
    set = new PinnedSet(pinDir);
    const now = set.now();
    let enforcing = 0;
    let monitoring = 0;
    for (const name of blockMapNames) {
      for (const { value } of set.entries(name)) {
        if (now < value.dropUntil) enforcing++;
        else if (now < value.countUntil) monitoring++;
      }
    }
    return { enforcing, monitoring };
  } catch {
    return null;
  } finally {
    set?.close();
  }
}

interface Told {
  readonly was: ModeNow;
  readonly is: ModeNow;
  readonly changed: boolean;
  readonly blocks: BlockCount | null;
  readonly notes: readonly Note[];
}

function tell({ answer, clock }: Call, { was, is, changed, blocks, notes }: Told): void {
  const nowMs = clock.now();
  const status = changed ? 'changed' : 'unchanged';
  if (answer.json) {
    answer.object({
      mode: is.mode,
      status,
      before: was.mode,
      ends_at: endAt(is.seconds, nowMs),
      ends_in_seconds: wholeSeconds(is.seconds),
      after: is.after,
      enforcing_entries: blocks?.enforcing ?? null,
      monitoring_entries: blocks?.monitoring ?? null,
      notes,
    });
    return;
  }
  const before = was.mode === is.mode ? (changed ? '' : ' unchanged') : ` (was ${was.mode})`;
  answer.line(`mode ${is.mode}${before}${blocks === null ? '' : `: ${effect(is.mode, blocks)}`}`);
  for (const { message } of notes) answer.note(message);
}

function effect(mode: Mode, { enforcing, monitoring }: BlockCount): string {
  const live = `${enforcing} live ${enforcing === 1 ? 'block' : 'blocks'}`;
  const watched = monitoring === 0 ? '' : `, ${monitoring} only count`;
  if (mode === 'enforce') return `${live} ${enforcing === 1 ? 'drops' : 'drop'}${watched}`;
  if (mode === 'monitor')
    return `${live} ${enforcing === 1 ? 'counts' : 'count'} and ${enforcing === 1 ? 'drops' : 'drop'} nothing${watched}`;
  return `${live} ${enforcing === 1 ? 'drops' : 'drop'} and ${enforcing === 1 ? 'counts' : 'count'} nothing, every packet passes`;
}

/** Last, and loaded last: whatever it needs may be broken. */
async function audit(call: Call, was: ModeNow, is: ModeNow): Promise<void> {
  try {
    const { openRootAudit } = await import('./root-audit.ts');
    const { ownerOfPins } = await import('../kernel/owner.ts');
    const reason = text(call, 'reason');
    const back = is.after === null ? '' : `, ${is.after} after ${wholeSeconds(is.seconds)} s unless confirmed`;
    openRootAudit(
      call,
      ownerOfPins(pinDirOf(call.environment)),
    )({
      action: 'mode_set',
      detail: `${was.mode} → ${is.mode}${back}${reason === undefined ? '' : `: ${reason}`}`,
    });
  } catch {
    // the kernel has it, and it was told
  }
}
