/**
 * Files that root believes: in `STATE_DIR/root`. The state directory is the service's; the folder in it is root's alone, and
 * neither folder nor file is believed unless root owns it and nobody else may write it.
 */
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';

const folderFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** S_IWGRP and S_IWOTH. */
const writableByOthers = 0o022;

/** Works on the open folder, so that nobody can put another one in its place meanwhile. Null when it is not root's alone. */
function inRootFolder<T>(stateDir: string, work: (folder: string) => T): T | null {
  let descriptor: number;
  try {
    descriptor = openSync(`${stateDir}/root`, folderFlags);
  } catch {
    return null;
  }
  try {
    return isRootsAlone(descriptor) ? work(`/proc/self/fd/${descriptor}`) : null;
  } finally {
    closeSync(descriptor);
  }
}

function isRootsAlone(descriptor: number): boolean {
  const { uid, mode } = fstatSync(descriptor);
  return uid === 0 && (mode & writableByOthers) === 0;
}

/** Null when it is not there, or not root's alone. */
export function readTrusted(stateDir: string, fileName: string): Buffer | null {
  return inRootFolder(stateDir, (folder) => {
    let descriptor: number;
    try {
      descriptor = openSync(`${folder}/${fileName}`, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch {
      return null;
    }
    try {
      return isRootsAlone(descriptor) ? readFileSync(descriptor) : null;
    } finally {
      closeSync(descriptor);
    }
  });
}

/**
 * Made new and renamed into place: nobody reads half of it, and no link is followed. Its contents are on the disk before its name,
 * and that before this returns: what root forced is acknowledged by it.
 */
export function writeTrusted(stateDir: string, fileName: string, contents: string): void {
  mkdirSync(stateDir, { recursive: true, mode: 0o755 });
  try {
    mkdirSync(`${stateDir}/root`, { mode: 0o755 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  inRootFolder(stateDir, (folder) => {
    const fresh = `${folder}/${fileName}.${process.pid}`;
    const descriptor = openSync(
      fresh,
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o644,
    );
    try {
      writeSync(descriptor, contents);
      fsyncSync(descriptor);
      renameSync(fresh, `${folder}/${fileName}`);
      syncFolder(folder);
    } catch (error) {
      unlinkSync(fresh);
      throw error;
    } finally {
      closeSync(descriptor);
    }
  });
}

function syncFolder(folder: string): void {
  const descriptor = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
