/** Targets as they are typed. */
import { type Prefix, parsePrefix } from '../address/prefix.ts';

/** All are read before anything is done. Throws `address_invalid`, `prefix_host_bits`. */
export function parseTargets(texts: readonly string[]): Prefix[] {
  return texts.map(parsePrefix);
}
