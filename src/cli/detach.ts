/** `falcodrop detach IF…|--all` */
import { FalcodropError } from '../errors.ts';
import { attachedIfindexes } from '../host/attached.ts';
import { type DetachOutcome, detach } from '../kernel/attach.ts';
import { native } from '../kernel/native.ts';
import { ownerOfPins } from '../kernel/owner.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { askAboutSession } from './attach.ts';
import { type Call, flag, isRoot } from './call.ts';
import { failureOf } from './failure.ts';
import { clean } from './output/clean.ts';
import { openRootAudit } from './root-audit.ts';

export async function detachInterfaces(call: Call): Promise<void> {
  const all = flag(call, 'all');
  const purge = flag(call, 'purge');
  const names = [...new Set(call.operands)];
  if (all && names.length > 0) {
    throw new FalcodropError('usage', '--all and interfaces exclude each other', 'name them, or say --all alone');
  }
  if (!all && names.length === 0) {
    throw new FalcodropError('usage', 'no interface was named', 'falcodrop detach IF…, or --all');
  }
  if (!isRoot()) {
    throw new FalcodropError(
      'not_permitted',
      '"falcodrop detach" takes BPF programs off, which is root\'s part',
      'sudo falcodrop detach …',
    );
  }
  const pinDir = pinDirOf(call.environment);
  const attached = attachedNames(pinDir);
  const left = all ? [] : attached.filter((name) => !names.includes(name));
  if (purge && left.length > 0) {
    throw new FalcodropError(
      'usage',
      `the maps are still in use by ${left.join(', ')}`,
      'purge with all of them: falcodrop detach --all --purge',
    );
  }
  if (flag(call, 'dryRun')) {
    foretell(call, all ? attached : names, attached, purge);
    return;
  }
  await askAboutSession(call, all ? attached : names, 'Detaching may reset it for seconds');

  const { answer } = call;
  const audit = openRootAudit(call, ownerOf(pinDir));
  const detached = (outcome: DetachOutcome): void => {
    audit({ action: 'detached', interface: outcome.name });
    tell(call, outcome);
  };
  if (all) {
    const done = await detachAll(pinDir, purge);
    if (done.length === 0 && !answer.json) answer.line('nothing was attached');
    for (const outcome of done) detached(outcome);
  } else {
    for (const name of names) {
      try {
        for (const outcome of await detach(pinDir, [name], { purge: false })) detached(outcome);
      } catch (error) {
        answer.fail(failureOf(error, call.verb));
      }
      await answer.flush();
    }
    if (purge && answer.status === 0) await detach(pinDir, [], { purge });
  }
  if (purge && answer.status === 0) audit({ action: 'purged', detail: 'maps and blocks were removed' });
  if (purge && answer.status === 0 && !answer.json) answer.line('maps and blocks were removed');
}

function foretell({ answer, verb }: Call, names: readonly string[], attached: readonly string[], purge: boolean): void {
  for (const name of names) {
    if (!attached.includes(name)) {
      const hint = 'falcodrop status tells what is';
      answer.fail(failureOf(new FalcodropError('not_attached', `${clean(name)} is not attached`, hint), verb));
    } else if (answer.json) {
      answer.object({ interface: name, would: 'detach' });
    } else {
      answer.line(`would detach ${clean(name)}`);
    }
  }
  if (answer.json) return;
  if (names.length === 0) answer.line('nothing is attached');
  if (purge) answer.line('would remove the maps, and every block with them');
}

/** Root's where there are no pins any more. */
function ownerOf(pinDir: string): { readonly uid: number; readonly gid: number } {
  try {
    return ownerOfPins(pinDir);
  } catch {
    return { uid: 0, gid: 0 };
  }
}

/** Nothing to take off is no failure: who cleans up twice has cleaned up. */
async function detachAll(pinDir: string, purge: boolean): Promise<DetachOutcome[]> {
  try {
    return await detach(pinDir, null, { purge });
  } catch (error) {
    if (error instanceof FalcodropError && error.code === 'pin_dir_missing') return [];
    throw error;
  }
}

/** From the pinned links alone: maps of another version can be purged too. */
function attachedNames(pinDir: string): string[] {
  const indexes = attachedIfindexes(pinDir);
  return native()
    .netlink.links()
    .filter(({ ifindex }) => indexes.has(ifindex))
    .map(({ name }) => name);
}

function tell({ answer }: Call, { name, ifindex }: DetachOutcome): void {
  if (answer.json) answer.object({ interface: name, ifindex, status: 'detached' });
  else answer.line(`${clean(name)} detached`);
}
