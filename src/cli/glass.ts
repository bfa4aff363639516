/**
 * Whether the global mode is what broken glass made it (breakglass.ts), and not a hand's: then an `attach` without any such
 * sign takes it back. What a hand has set stays as it is.
 */
import { readTrusted, writeTrusted } from './trusted.ts';

const fileName = 'glass.json';

/** Root's part. */
export function markGlass(stateDir: string, mode: string): void {
  write(stateDir, JSON.stringify({ mode }));
}

export function clearGlass(stateDir: string): void {
  if (markedMode(stateDir) !== null) write(stateDir, '{}');
}

/** The mode that broken glass has set; null: none did, or a hand has set one since. */
export function markedMode(stateDir: string): string | null {
  try {
    const marked = JSON.parse(readTrusted(stateDir, fileName)?.toString() ?? '{}') as { mode?: unknown } | null;
    return typeof marked?.mode === 'string' ? marked.mode : null;
  } catch {
    return null;
  }
}

function write(stateDir: string, text: string): void {
  try {
    writeTrusted(stateDir, fileName, text);
  } catch {
    // a read-only state directory: falcodrop mode enforce works all the same
  }
}
