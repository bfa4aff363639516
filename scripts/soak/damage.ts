/** What happens to the ledger's files: what a disk, an operator or another program may do to them. */
import {
  chmodSync,
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';

/**
 * What may come of it, each more than the one before.
 *
 * nothing: it is as it was, once what was done is undone.
 * rebuilt: the ledger is begun anew from what the maps hold; whose a claim was may be another, how long it lasts is not.
 * rolled back: the last commits are gone: what was unblocked since may come back, and a block after an unblock may go with it.
 * altered: SQLite has no checksums, so each byte may have changed a record and nobody sees it.
 */
export type Harm = 'nothing' | 'rebuilt' | 'rolled back' | 'altered';

export interface Damage {
  readonly name: string;
  readonly harm: Harm;
  /** May be done while others have the files open; the rest would be SIGBUS, or garbage in their memory, not a bad file. */
  readonly isLive: boolean;
  /** `below(n)`: 0 to n − 1 at random. Returns how it is mended; null: by nobody. */
  readonly inflict: (path: string, below: (limit: number) => number) => (() => void) | null;
}

const pageBytes = 4096;

/** Bytes of one `altered`: as many records at most are lost. */
export const flips = 8;

const isThere = (path: string): boolean => existsSync(path) && statSync(path).size > 0;

function edit(path: string, work: (descriptor: number, size: number) => void): void {
  if (!isThere(path)) return;
  const descriptor = openSync(path, 'r+');
  try {
    work(descriptor, statSync(path).size);
  } finally {
    closeSync(descriptor);
  }
}

function flip(path: string, below: (limit: number) => number): void {
  edit(path, (descriptor, size) => {
    const byte = Buffer.alloc(1);
    for (let i = 0; i < flips; i++) {
      const at = below(size);
      readSync(descriptor, byte, 0, 1, at);
      byte[0] = (byte[0] ?? 0) ^ (1 << below(8));
      writeSync(descriptor, byte, 0, 1, at);
    }
  });
}

function cut(path: string, below: (limit: number) => number): void {
  edit(path, (descriptor, size) => ftruncateSync(descriptor, below(size)));
}

/** Whole pages, or the end of one. */
function overwrite(path: string, first: number, pages: number, fill: (page: Buffer) => void): void {
  edit(path, (descriptor, size) => {
    const page = Buffer.alloc(pageBytes);
    for (let i = first; i < first + pages && i * pageBytes < size; i++) {
      fill(page);
      writeSync(descriptor, page, 0, Math.min(pageBytes, size - i * pageBytes), i * pageBytes);
    }
  });
}

const done = (work: (path: string, below: (limit: number) => number) => void): Damage['inflict'] => {
  return (path, below) => {
    work(path, below);
    return null;
  };
};

const logOf = (path: string): string => `${path}-wal`;

/** Whether any process of this machine has the ledger, its log or its shared memory open. */
export function isOpen(path: string): boolean {
  return readdirSync('/proc').some((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith(path));
    } catch {
      return false; // it has ended meanwhile
    }
  });
}

export const damages: readonly Damage[] = [
  {
    name: 'its shared memory is overwritten',
    harm: 'nothing',
    isLive: false,
    inflict: done((path, below) => overwrite(`${path}-shm`, 0, 8, (page) => page.fill(below(256)))),
  },
  {
    name: 'it is read-only',
    harm: 'nothing',
    isLive: true,
    inflict: (path) => {
      if (!existsSync(path)) return null;
      chmodSync(path, 0o440);
      return () => {
        if (existsSync(path)) chmodSync(path, 0o660);
      };
    },
  },
  {
    name: 'a directory has its name',
    harm: 'nothing',
    isLive: true,
    inflict: (path) => {
      if (!existsSync(path)) return null;
      const kept = `${path}.kept`;
      renameSync(path, kept);
      mkdirSync(path);
      return () => {
        rmdirSync(path);
        renameSync(kept, path);
      };
    },
  },
  {
    name: 'some of its pages are empty',
    harm: 'rebuilt',
    isLive: true,
    inflict: done((path, below) => {
      const pages = existsSync(path) ? Math.ceil(statSync(path).size / pageBytes) : 0;
      for (let i = 0; i < 4; i++) overwrite(path, below(Math.max(1, pages)), 1 + below(3), (page) => page.fill(0));
    }),
  },
  {
    name: 'something else is written over it',
    harm: 'rebuilt',
    isLive: true,
    inflict: done((path, below) => overwrite(path, 0, 1 << 16, (page) => page.fill(1 + below(255)))),
  },
  { name: 'it is cut', harm: 'rebuilt', isLive: true, inflict: done(cut) },
  { name: 'it is emptied', harm: 'rebuilt', isLive: true, inflict: done((path) => cut(path, () => 0)) },
  { name: 'it is removed', harm: 'rebuilt', isLive: true, inflict: done((path) => rmSync(path, { force: true })) },
  {
    name: 'it is removed with its log',
    harm: 'rebuilt',
    isLive: true,
    inflict: done((path) => {
      for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true });
    }),
  },
  {
    name: 'its log is cut',
    harm: 'rolled back',
    isLive: false,
    inflict: done((path, below) => cut(logOf(path), below)),
  },
  {
    name: 'bytes of its log are flipped',
    harm: 'rolled back',
    isLive: false,
    inflict: done((path, below) => flip(logOf(path), below)),
  },
  {
    name: 'its log is removed',
    harm: 'rolled back',
    isLive: false,
    inflict: done((path) => rmSync(logOf(path), { force: true })),
  },
  { name: 'bytes of it are flipped', harm: 'altered', isLive: true, inflict: done(flip) },
];
