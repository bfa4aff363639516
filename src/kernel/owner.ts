/** To whom `attach` gave the maps. The pins are root's word for it, and need no configuration to be read. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { requirePins } from './pins.ts';

/** User and group of the service; root's where there is none. Throws `pin_dir_missing`, `not_permitted`. */
export function ownerOfPins(pinDir: string): { readonly uid: number; readonly gid: number } {
  const { current } = requirePins(pinDir);
  try {
    const { uid, gid } = statSync(join(current, 'blocked_v4'));
    return { uid, gid };
  } catch {
    return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
  }
}
