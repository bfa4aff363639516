/**
 * `fd.name`, as Falco's libs print it for every kind of file descriptor. For sockets the client stands left of the arrow,
 * the server right:
 *
 *   10.0.0.1:5000->1.2.3.4:80            IPv4, TCP and UDP
 *   2600:1f18::d29e:40251->2001:db8::8:53  IPv6: no brackets, the port after the last colon
 *   ::ffff:127.0.0.1:36191->…            v4-mapped on either end
 *   1.2.3.4->5.6.7.8                     ICMP and raw sockets: no ports
 *   0.0.0.0:8080, :::8080                bound or listening: no arrow
 *   ffff8f1c->ffff8e7d /run/x.sock       unix sockets: kernel pointers, and an arrow too
 *
 * The text counts only when all of it has one of these forms: a file's name is the attacker's to choose, but is printed
 * as an absolute path.
 */
import { type Address, readAddress } from '../../address/address.ts';
import { readPort } from '../../alert/fields.ts';

export interface Endpoint {
  readonly address: Address;
  /** Null: the socket has none (ICMP, raw), or the alert does not print it. */
  readonly port: number | null;
}

export interface Tuple {
  readonly client: Endpoint;
  readonly server: Endpoint;
}

export type SocketName =
  /** More than one reading: `2001:db8::3:1234` is both an address and an address with a port. */
  | { readonly kind: 'tuple'; readonly readings: readonly [Tuple, ...Tuple[]] }
  | { readonly kind: 'bound' }
  | { readonly kind: 'unix' }
  | { readonly kind: 'other' };

/** Two IPv6 addresses of 45 characters with zone ids of 15 and ports, and the arrow; longer is no socket. */
const longestName = 160;

/** `ported`: whether the halves carry ports; null = not known, then both readings are given where both are possible. */
export function readSocketName(name: string, ported: boolean | null): SocketName {
  if (name.length > longestName) return { kind: 'other' };
  const arrow = name.indexOf('->');
  if (arrow < 0) return { kind: readPorted(name) === null ? 'other' : 'bound' };
  if (/^[0-9a-f]{1,16}->[0-9a-f]{1,16}( |$)/.test(name)) return { kind: 'unix' };

  const left = name.slice(0, arrow);
  const right = name.slice(arrow + 2);
  const withPorts = pair(readPorted(left), readPorted(right));
  const without = pair(readBare(left), readBare(right));
  if (withPorts === null) return without === null ? { kind: 'other' } : { kind: 'tuple', readings: [without] };
  if (without === null || ported === true) return { kind: 'tuple', readings: [withPorts] };
  return { kind: 'tuple', readings: ported === false ? [without] : [withPorts, without] };
}

/** An address as a field of its own (`fd.cip`): a zone id is dropped, it names an interface and not a sender. */
export function readHost(text: string): Address | null {
  const zone = text.indexOf('%');
  return readAddress(zone < 0 ? text : text.slice(0, zone));
}

function readPorted(text: string): Endpoint | null {
  const colon = text.lastIndexOf(':');
  if (colon <= 0) return null;
  const address = readHost(text.slice(0, colon));
  const port = readPort(text.slice(colon + 1));
  return address === null || port === null ? null : { address, port };
}

function readBare(text: string): Endpoint | null {
  const address = readHost(text);
  return address === null ? null : { address, port: null };
}

function pair(client: Endpoint | null, server: Endpoint | null): Tuple | null {
  return client === null || server === null ? null : { client, server };
}
