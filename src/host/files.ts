/** Files of the system that may not be there. */
import { readdirSync, readFileSync } from 'node:fs';

/** Files larger than this are none of those we look for. */
const largestFile = 8 << 20;

/** Null when there is none, or it cannot be read. */
export function readIfThere(path: string): Buffer | null {
  try {
    const bytes = readFileSync(path);
    return bytes.length > largestFile ? null : bytes;
  } catch {
    return null;
  }
}

export function textIfThere(path: string): string | null {
  return readIfThere(path)?.toString('utf8') ?? null;
}

/** Names in a directory, sorted; none when it is not there. */
export function namesIn(path: string): string[] {
  try {
    return readdirSync(path).toSorted();
  } catch {
    return [];
  }
}
