/**
 * Fault points: where a process may be killed, for tests that kill it there. What must hold however a process ends is shown by
 * ending it at each of them (test/e2e/families.ts says where).
 *
 * `FAULT=<name>` in the environment of a process makes the first call with that name its last act: SIGKILL, which runs no
 * handler, releases no lock by hand and closes nothing, as a crash or the kernel's OOM killer would. `FAULT=<name>@<n>` lets it
 * pass there n − 1 times before. Nobody gains by setting it who could not kill the process anyway.
 */

/** Every point, and what has been done there and what has not. */
export const faults = {
  'block.listed': "root's own list holds a forced claim; map and ledger know nothing of it",
  'block.begun': 'the lock is held; nothing is written',
  'block.mapped': 'the maps hold the block; the ledger does not',
  'block.entered': "the ledger has committed, and the lock is free; the ledger's log is not synced",
  'block.recorded': 'the ledger is on the disk; the command has not ended',
  'extend.mapped': 'an entry was raised in place; the ledger has the earlier end',
  'replace.mapped': 'an entry was set exactly; the ledger has the former end',

  'unblock.unlisted': "root's own list forces it no more; ledger and map hold it",
  'unblock.begun': 'the lock is held; neither ledger nor map has changed',
  'unblock.recorded': 'a tombstone is committed; the map still drops',
  'unblock.mapped': 'the entry is gone, or what the other claims wish; the tombstone stays',
  'unblock.unhinted': 'the hint of a family without prefixes is cleared',
  'unblock.entered': "map and ledger are changed, and the lock is free; the ledger's log is not synced",

  'insert.hinted': 'the hint says that there are prefixes; the one to come is not in its map',
  'insert.placed':
    'one entry is in its map; whoever put it there does not know yet, nor are the others of the slice there',
  'remove.taken': 'one entry is out of its map; its hint, and the others of the slice, are as they were',
  'unhint.seen': 'a map without prefixes was seen empty; the hint still says that there are some',

  'automatic.mapped': 'a new address went in without the lock; nobody has verified it',
  'automatic.raised': 'an entry was raised under the lock; nothing is written down',
  'settle.raised': 'seen in the pinned maps under the lock; the ledger does not have it',
  'settle.recorded': 'the ledger has committed; it counts as acknowledged from here on',

  'reap.mapped': 'ended entries are gone from the maps; the ledger still has their claims',
  'reap.recorded': 'the ledger knows that they ended',

  'import.caused': "the set's cause is written; none of its claims is",
  'import.withdrawn': 'one slice of what a feed has no more is withdrawn',
  'import.sliced': 'one slice is done, map and ledger',

  'undo.withdrawn': 'claims that were made are withdrawn; those that were extended still last',
  'undo.set': 'one slice of extended claims has its former ends',

  'reconcile.sliced': 'one slice of targets is mended, map and ledger',
  'reconcile.set': 'an entry was set to what the claims wish; the ledger has not been told of this slice',
  'reconcile.removed': 'an entry was removed; its tombstone, or its ended claims, are still there',
  'reconcile.recorded': 'the ledger was told of a slice; the lock is held',
  'reconcile.adopted': 'entries that nobody had written down are claims now',

  'attach.mounted': 'a bpffs is mounted; nothing is in it',
  'attach.locked': 'the directories for links and lock are there, and the lock is held',
  'attach.placed': 'the directory of the set is there, without a pin',
  'attach.pinning': 'some maps of the set are pinned',
  'attach.pinned': "all maps and programs are pinned, root's still",
  'attach.owned': 'the pins have their owners; "current" does not point there',
  'attach.current': '"current" points to the set, which is empty',
  'attach.restored': 'claims are back in the maps; no interface is attached',
  'attach.moded': 'the global mode is set',
  'attach.linked': 'the program drops, through a link that ends with this process',
  'attach.slotted': 'the interface has its slot of counters; the link is not pinned',
  'attach.kept': 'the link is pinned',
  'attach.updated': 'another program runs under the pinned link',

  'detach.detached': 'the link is pinned and holds no interface any more',
  'detach.unpinned': 'the link is gone; the slot is still the interface’s',
  'detach.freed': 'the slot is free',
  'purge.unpinning': 'some pins of the set are gone',
  'purge.removed': 'the set is gone; the directories are there',

  'allow.written': 'an allow file has what is wanted; the kernel does not',
  'protect.stepping': 'some of the allows are as they shall be',
  'protect.allowed': 'the kernel allows what is wanted; ports that are never dropped are as before',
  'mode.set': 'the kernel has another mode; nobody was told',

  'ledger.made': 'the file is there, empty: SQLite has not opened it',
  'migrate.copied': 'the copy from before a migration is laid beside the ledger',
  'migrate.changed': 'a migration is done, not committed',
  'migrate.committed': 'a migration is committed',
  'backup.copied': 'the copy lies in the state directory; none of it was handed over',
  'backup.begun': 'the first part of the copy is in a file beside the one that was named',
  'backup.written': 'the file beside the one that was named is whole, and on the disk',
  'backup.named': 'the file that was named is whole; it has its former name, too, or has lost it',
  'restore.begun': 'an empty folder for the backup lies in the state directory',
  'restore.copied': 'the backup was read and lies in the state directory, unchecked',
  'restore.checked': 'the backup was checked; the ledger is as it was',
  'restore.replacing': 'claims and history are the backup’s, not committed',
  'restore.replaced': 'the ledger is what the backup holds; nobody was told',

  'aside.moved': 'a damaged ledger has its new name; its log has not',
  'aside.emptied': 'all of a damaged ledger was moved; there is no new one',
} as const satisfies Readonly<Record<string, string>>;

export type FaultName = keyof typeof faults;

const [chosen, time = '1'] = process.env.FAULT?.split('@') ?? [];
let timesLeft = Number(time);

/** Does nothing, unless this is the point where the process is to be killed. */
export function fault(name: FaultName): void {
  if (chosen === name && --timesLeft === 0) process.kill(process.pid, 'SIGKILL');
}
