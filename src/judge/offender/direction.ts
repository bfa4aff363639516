/**
 * Which half of a connection is the offender's. Decided by what the system call was (`evt.type`) and which half is ours.
 *
 * `fd.rip` and `fd.lip` are not looked at, not even as a cross-check: libs calls the client remote unless it knows the
 * client's address as local, so in a container whose address it does not know `fd.rip` is the victim, and for IPv6 every
 * address of an interface's subnet counts as local, which turns each accept on the host round. A check that is wrong that
 * often would only refuse what is right.
 */
import { type Address, sameAddress } from '../../address/address.ts';
import { isPrivate, loopback, unspecified } from '../guard/ranges.ts';
import type { HostFacts } from '../host-facts.ts';
import type { Tuple } from './tuple.ts';

/** Which side opened the connection; null = not known. */
export type Way = 'inbound' | 'outbound' | null;

/** `own`: the half that must be the offender's is ours, or both are. */
export type Direction =
  | { readonly kind: 'offender'; readonly half: 'client' | 'server'; readonly way: Way }
  | { readonly kind: 'own'; readonly half: 'client' | 'server' | null }
  | { readonly kind: 'ambiguous' };

/** This host's, or a container's on it. */
export function isOurs(address: Address, host: HostFacts): boolean {
  return (
    host.own.covering(address) !== null ||
    host.containers.covering(address) !== null ||
    loopback.covering(address) !== null ||
    unspecified.covering(address) !== null
  );
}

/** Roles are proven: who connects is the client, who accepts is the server, whatever the addresses look like. */
const roleOf: Readonly<Record<string, 'client' | 'server'>> = {
  connect: 'server',
  accept: 'client',
  accept4: 'client',
};

/** Something was sent: without a better clue, to the server. */
const sends = new Set(['send', 'sendto', 'sendmsg', 'sendmmsg']);

/**
 * `event` is `evt.type`, null in alerts of rules older than 2.0.0; then the rule's name may tell, as in "Unexpected
 * inbound connection source".
 */
export function direct(tuple: Tuple, event: string | null, rule: string, host: HostFacts): Direction {
  const clientOurs = isOurs(tuple.client.address, host);
  const serverOurs = isOurs(tuple.server.address, host);

  // Who talks to himself: not known to be ours only where another host's alert is judged.
  if (!clientOurs && !serverOurs && sameAddress(tuple.client.address, tuple.server.address)) {
    return { kind: 'own', half: null };
  }

  const proven = event !== null && Object.hasOwn(roleOf, event) ? (roleOf[event] ?? null) : null;
  if (proven !== null) return byRole(proven, clientOurs, serverOurs);

  // Neither is known to be ours: of a private and a public one the private one runs here (a container's network of which
  // nothing is known), for nobody reaches a private address from the Internet.
  if (!clientOurs && !serverOurs) {
    const clientPrivate = isPrivate(tuple.client.address);
    if (clientPrivate !== isPrivate(tuple.server.address)) {
      return clientPrivate
        ? { kind: 'offender', half: 'server', way: 'outbound' }
        : { kind: 'offender', half: 'client', way: 'inbound' };
    }
  }

  const named = event === null ? roleByName(rule) : null;
  if (named !== null) return byRole(named, clientOurs, serverOurs);
  if (clientOurs && serverOurs) return { kind: 'own', half: null };
  if (clientOurs) return { kind: 'offender', half: 'server', way: 'outbound' };
  if (serverOurs) return { kind: 'offender', half: 'client', way: 'inbound' };
  if (event !== null && sends.has(event)) return { kind: 'offender', half: 'server', way: null };
  return { kind: 'ambiguous' };
}

/** If the half that must be the offender's is ours, the other one is not taken for it. */
function byRole(role: 'client' | 'server', clientOurs: boolean, serverOurs: boolean): Direction {
  if (role === 'client') {
    return clientOurs ? { kind: 'own', half: 'client' } : { kind: 'offender', half: 'client', way: 'inbound' };
  }
  return serverOurs ? { kind: 'own', half: 'server' } : { kind: 'offender', half: 'server', way: 'outbound' };
}

/** "Outbound or Inbound Traffic …" says both, and so nothing. */
function roleByName(rule: string): 'client' | 'server' | null {
  const inbound = /\binbound\b/i.test(rule);
  const outbound = /\boutbound\b/i.test(rule);
  if (inbound === outbound) return null;
  return inbound ? 'client' : 'server';
}
