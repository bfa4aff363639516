/** `falcodrop confirm`: what would undo itself stays. */
import { FalcodropError } from '../errors.ts';
import type { Settings } from '../kernel/layout.ts';
import { confirmedMode, type Mode, modeNow, wentBack } from '../kernel/mode.ts';
import { ownerOfPins } from '../kernel/owner.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { changeSettings, lockRoot, readSettings } from '../kernel/settings.ts';
import { formatDuration } from '../time/duration.ts';
import { type Call, isRoot } from './call.ts';
import { confirmBlocks } from './confirm-blocks.ts';
import { local, utc } from './output/moment.ts';
import { openRootAudit } from './root-audit.ts';

export async function confirm(call: Call): Promise<void> {
  const { answer, clock } = call;
  const pinDir = pinDirOf(call.environment);
  // The mode first: it has the nearer end as a rule, and blocks are confirmed by a process that is no longer root.
  const outcome = await confirmMode(pinDir);
  if (outcome.kind === 'confirmed') {
    if (answer.json)
      answer.object({ what: 'mode', mode: outcome.mode, status: 'confirmed', would_have_been: outcome.after });
    else answer.line(`confirmed: the mode stays ${outcome.mode}`);
    await answer.flush();
    openRootAudit(call, ownerOfPins(pinDir))({ action: 'mode_set', detail: `${outcome.mode} confirmed` });
  } else if (outcome.kind === 'late') {
    const { from, to, secondsAgo } = outcome;
    const ago = `${formatDuration(Math.floor(secondsAgo))} ago, at ${local(clock.now() - secondsAgo * 1000)}`;
    answer.fail(
      new FalcodropError(
        'confirm_late',
        `too late: the mode went from ${from} to ${to} by itself ${ago}`,
        `falcodrop mode ${from} sets it again`,
      ),
    );
  } else if (outcome.kind === 'forbidden') {
    answer.fail(new FalcodropError('not_permitted', "the mode is root's to confirm", 'sudo falcodrop confirm'));
  }
  const blocks = await confirmBlocks(call);
  for (const { target, until } of blocks) {
    if (answer.json)
      answer.object({ what: 'block', target, status: 'confirmed', ends_at: until === null ? null : utc(until) });
    else answer.line(`confirmed: ${target} stays blocked ${until === null ? 'for ever' : `until ${local(until)}`}`);
  }
  if (outcome.kind === 'nothing' && blocks.length === 0 && answer.status === 0) {
    answer.fail(
      new FalcodropError('nothing_pending', 'nothing waits to be confirmed', 'falcodrop status shows what is pending'),
    );
  }
}

type Outcome =
  | { readonly kind: 'nothing' | 'forbidden' }
  | { readonly kind: 'confirmed'; readonly mode: Mode; readonly after: Mode }
  | { readonly kind: 'late'; readonly from: Mode; readonly to: Mode; readonly secondsAgo: number };

async function confirmMode(pinDir: string): Promise<Outcome> {
  if (!isRoot()) {
    const isPending = modeNow(readSettings(pinDir)).after !== null;
    return { kind: isPending ? 'forbidden' : 'nothing' };
  }
  const lock = await lockRoot(pinDir);
  try {
    const { before, after } = changeSettings(pinDir, (settings) => confirmedMode(settings));
    if (after === before) return tooLate(pinDir, before) ?? { kind: 'nothing' };
    // Stopped between reading and writing (a terminal that hung) it may have come after the deadline: then it went back, and
    // stays so.
    const late = tooLate(pinDir, before);
    if (late !== null) return late;
    const { mode, after: other } = modeNow(before, 0n);
    return { kind: 'confirmed', mode, after: other ?? mode };
  } finally {
    lock.release();
  }
}

/** Null: it is not. Else it stays as it went, and is told once. */
function tooLate(pinDir: string, settings: Settings): Outcome | null {
  const back = wentBack(settings);
  if (back === null) return null;
  changeSettings(pinDir, (now) => ({ ...now, mode: settings.modeAfter, deadline: 0n, modeAfter: settings.modeAfter }));
  return { kind: 'late', ...back };
}
