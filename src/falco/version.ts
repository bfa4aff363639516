/** Which Falco it is: its version decides what it reads. */
import { FalcodropError } from '../errors.ts';

export interface FalcoVersion {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  /** As Falco says it: `0.43.1`, `0.44.0-rc1`. */
  readonly text: string;
}

/** The oldest whose alerts have all that is read of them. */
export const oldest = '0.30';

/** `0.43`, `0.43.1`, `v0.43.1`, `0.44.0-rc1`, `0.36.0-41+8a1b2c3`; null for anything else. */
export function parseFalcoVersion(text: string): FalcoVersion | null {
  const found = /^v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,6}))?([-+][0-9A-Za-z.+-]{1,60})?$/.exec(text);
  if (found === null) return null;
  const [, major, minor, patch = '0'] = found;
  return { major: Number(major), minor: Number(minor), patch: Number(patch), text: text.replace(/^v/, '') };
}

/** Whether it is `since` (`0.39`) or newer. A release candidate counts as its release. */
export function isSince({ major, minor }: FalcoVersion, since: string): boolean {
  const [sinceMajor = 0, sinceMinor = 0] = since.split('.').map(Number);
  return major > sinceMajor || (major === sinceMajor && minor >= sinceMinor);
}

/**
 * What `falco --version` printed: a line `Falco version: 0.43.1` on stdout; JSON, where the configuration says `json_output`;
 * and before both, on stderr, a line of the log, with the machine after it: `…: Falco version: 0.43.1 (x86_64)`.
 */
export function readVersionOutput(stdout: string, stderr: string): FalcoVersion | null {
  for (const line of stdout.split('\n')) {
    if (!line.startsWith('{')) continue;
    try {
      const { falco_version: said } = JSON.parse(line) as Readonly<Record<string, unknown>>;
      const version = typeof said === 'string' ? parseFalcoVersion(said) : null;
      if (version !== null) return version;
    } catch {
      // not this line
    }
  }
  for (const text of [stdout, stderr]) {
    const said = /(?:^|[\s:])Falco version:\s+(\S{1,80})/m.exec(text)?.[1];
    const version = said === undefined ? null : parseFalcoVersion(said);
    if (version !== null) return version;
  }
  return null;
}

/** Throws `falco_unfit`. */
export function requireNewEnough(version: FalcoVersion): void {
  if (isSince(version, oldest)) return;
  throw new FalcodropError(
    'falco_unfit',
    `version ${version.text} of Falco is too old: its alerts lack what falcodrop reads, which came with ${oldest}`,
    'install a newer Falco',
  );
}
