/**
 * Whether a file that nobody named may say how root blocks. What lies in a folder is read because of its name alone: whoever
 * may write there would otherwise switch the guard off, the service's own user too.
 */
import type { Stats } from 'node:fs';
import { aboutFile, type Problem } from './problem.ts';

/** S_IWGRP, S_IWOTH. */
const groupWrites = 0o020;
const worldWrites = 0o002;

/** Null when only root and who reads it may write it. */
export function distrust(file: string, { uid, gid, mode }: Stats, reader = process.geteuid?.() ?? 0): Problem | null {
  if (uid !== 0 && uid !== reader) {
    return aboutFile(file, `it is neither root's nor yours (uid ${uid})`, `chown root ${file}`);
  }
  if ((mode & worldWrites) !== 0) return aboutFile(file, 'everybody may write it', `chmod o-w ${file}`);
  if (reader === 0 && gid !== 0 && (mode & groupWrites) !== 0) {
    return aboutFile(file, `a group may write it (gid ${gid})`, `chmod g-w ${file}`);
  }
  return null;
}
