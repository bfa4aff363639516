/** The names this host goes by in alerts. */
import { hostname } from 'node:os';

/**
 * Lower case: the kernel's host name, its first label, and what the configuration adds (a fully qualified name; the id that
 * a Falco in a container takes for a host name).
 */
export function hostNames(aliases: readonly string[], name: string = hostname()): ReadonlySet<string> {
  const names = [name, name.split('.')[0] ?? name, ...aliases];
  return new Set(names.map((text) => text.toLowerCase()).filter((text) => text !== ''));
}
