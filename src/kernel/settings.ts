/**
 * The one element of `settings`, which root alone writes. Each writer changes its own fields of what is there at that moment,
 * under root's own lock (`PIN_DIR/root`, 0700): the lock of the block maps is the service's too, which could hold it for ever.
 */
import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { FalcodropError } from '../errors.ts';
import { u32 } from './attach.ts';
import { decodeSettings, encodeSettings, FALCODROP_FORMAT, layout, type Settings } from './layout.ts';
import { type BpfMap, type FileLock, isNativeError, native } from './native.ts';
import { notReachable, requirePins } from './pins.ts';

/** How long root's verbs wait for each other, in ms; they hold it for a few. */
export const rootPatienceMs = 10_000;

/**
 * Root's lock. Who also takes the lock of the block maps takes that one first. Throws `pin_dir_missing`, `not_permitted`,
 * `lock_busy`.
 */
export async function lockRoot(pinDir: string, patienceMs: number = rootPatienceMs): Promise<FileLock> {
  const { root } = requirePins(pinDir);
  for (;;) {
    try {
      mkdirSync(root, { mode: 0o700 });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EACCES' || code === 'EPERM') throw notReachable(root, error);
      if (code !== 'EEXIST') throw error;
    }
    const ino = inodeOf(root);
    const lock = await tryFor(root, patienceMs);
    if (lock === null) {
      throw new FalcodropError(
        'lock_busy',
        `another of root's falcodrops has held ${root} for ${patienceMs / 1000} s`,
        'find it: fuser, or lsof',
      );
    }
    // One purged while it was waited for is nobody's any more.
    if (ino !== undefined && inodeOf(root) === ino) return lock;
    lock.release();
  }
}

async function tryFor(root: string, patienceMs: number): Promise<FileLock | null> {
  try {
    return await native().lock(root, 'exclusive', patienceMs);
  } catch (error) {
    if (isNativeError(error) && (error.code === 'EACCES' || error.code === 'EPERM')) throw notReachable(root, error);
    throw error;
  }
}

function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

/** Nothing else of the set is opened: `mode off` must work whatever has become of the rest. */
function openSettings(pinDir: string, readOnly: boolean): BpfMap {
  const path = join(requirePins(pinDir).current, 'settings');
  let map: BpfMap;
  try {
    map = native().openMap(path, { readOnly });
  } catch (error) {
    if (!isNativeError(error)) throw error;
    if (error.code === 'EACCES' || error.code === 'EPERM') throw notReachable(path, error);
    throw new FalcodropError('layout_mismatch', `${path} can not be opened (${error.code})`, wayOut, error);
  }
  const { valueSize } = map.info;
  if (valueSize === layout.settings.size) return map;
  map.close();
  throw new FalcodropError(
    'layout_mismatch',
    `${path} has ${valueSize} bytes, which is not this version's layout`,
    wayOut,
  );
}

/** `detach` goes by the links alone. */
const wayOut = 'use the falcodrop that attached them, or stop all drops by: falcodrop detach --all';

function decode(map: BpfMap, pinDir: string): Settings {
  const settings = decodeSettings(map.lookup(u32(0)) ?? Buffer.alloc(layout.settings.size));
  if (settings.format === FALCODROP_FORMAT) return settings;
  throw new FalcodropError(
    'layout_mismatch',
    `the maps under ${pinDir} have format ${settings.format}, this falcodrop writes format ${FALCODROP_FORMAT}`,
    wayOut,
  );
}

/** What holds now. Throws `pin_dir_missing`, `not_permitted`, `layout_mismatch`. */
export function readSettings(pinDir: string): Settings {
  const map = openSettings(pinDir, true);
  try {
    return decode(map, pinDir);
  } finally {
    map.close();
  }
}

export interface SettingsChange {
  readonly before: Settings;
  /** The same object where nothing was written. */
  readonly after: Settings;
}

/**
 * Reads, changes and writes under root's lock, which the caller holds. `change` returns what it was given to leave all as it is.
 * One update of an array's element is a copy of 88 bytes that the XDP program may see half done, for nanoseconds: fields are
 * read one by one there.
 */
export function changeSettings(pinDir: string, change: (settings: Settings) => Settings): SettingsChange {
  const map = openSettings(pinDir, false);
  try {
    const before = decode(map, pinDir);
    const after = change(before);
    if (after !== before) {
      try {
        map.update(u32(0), encodeSettings(after));
      } catch (error) {
        if (!isNativeError(error) || error.code !== 'EPERM' || !map.info.frozen) throw error;
        throw new FalcodropError(
          'kernel_call',
          'the map settings is frozen: nobody can change it any more',
          'stop all drops by: falcodrop detach --all; build the set anew with --purge',
          error,
        );
      }
    }
    return { before, after };
  } finally {
    map.close();
  }
}
