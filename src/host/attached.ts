/** The interfaces that falcodrop is attached to. */
import { readdirSync } from 'node:fs';
import { type Link, native } from '../kernel/native.ts';
import { pinPaths } from '../kernel/pins.ts';

/**
 * By the names of the pinned links, `links/if<ifindex>`. A user who may not list them gets every interface whose XDP hook
 * is taken: nearly always the same, and visible to everybody.
 */
export function attachedIfindexes(pinDir: string, links?: readonly Link[]): Set<number> {
  let names: string[];
  try {
    names = readdirSync(pinPaths(pinDir).links);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'EACCES' && code !== 'EPERM') return new Set();
    const all = links ?? native().netlink.links();
    return new Set(all.filter((link) => link.xdp.mode !== 'none').map((link) => link.ifindex));
  }
  return new Set(names.flatMap((name) => /^if([1-9]\d{0,9})$/.exec(name)?.slice(1).map(Number) ?? []));
}
