/** The names this host goes by in alerts. */
import { hostname } from 'node:os';

/**
 * Lower case: the kernel's host name, which is what Falco reports (gethostname(2)), and what the configuration adds (the id that a
 * Falco in a container takes for a host name). Not its first label: `web` may be web.b.example, who sends to the same place.
 */
export function hostNames(aliases: readonly string[], name: string = hostname()): ReadonlySet<string> {
  return new Set([name, ...aliases].map((text) => text.toLowerCase()).filter((text) => text !== ''));
}
