/** Whose address an alert accuses. Naming only: what may be done with it is the guard's and the policies' matter. */
import { type Address, formatAddress, sameAddress } from '../../address/address.ts';
import type { Alert } from '../../alert/alert.ts';
import { integerField, portField, textField, truthField } from '../../alert/fields.ts';
import type { HostFacts } from '../host-facts.ts';
import type { IgnoreReason } from '../reason.ts';
import { type Direction, direct, isOurs, type Way } from './direction.ts';
import { type Endpoint, readHost, readSocketName, type Tuple } from './tuple.ts';

export type Naming =
  | {
      readonly kind: 'offender';
      readonly offender: Endpoint;
      readonly way: Way;
      /** In lower case; null = not printed. */
      readonly protocol: string | null;
      readonly event: string | null;
      /** False: an attempt only, or read from text. Names an offender, justifies no act. */
      readonly proven: boolean;
      /** One sentence for people. */
      readonly detail: string;
    }
  | { readonly kind: 'own'; readonly address: Address | null; readonly detail: string }
  | { readonly kind: 'ambiguous'; readonly detail: string }
  | { readonly kind: 'nobody'; readonly reason: IgnoreReason; readonly detail: string };

/** System calls about a socket's other end. */
const socketEvents = new Set([
  ...['accept', 'accept4', 'connect', 'socket', 'shutdown'],
  ...['send', 'sendto', 'sendmsg', 'sendmmsg', 'recv', 'recvfrom', 'recvmsg', 'recvmmsg'],
]);

/** System calls whose descriptor is never a socket: a file's name may look like a connection. */
const pathEvents = /^(open|creat|unlink|rename|link|symlink|mkdir|rmdir|f?chmod|[fl]?chown|u?mount|execve|setns|chdir)/;

export function nameOffender(alert: Alert, host: HostFacts): Naming {
  const nobody = whyNobody(alert);
  if (nobody !== null) return nobody;

  const { fields } = alert;
  const event = textField(fields, 'evt.type');
  const found = fields === null ? tuplesInOutput(alert.output) : tuplesInFields(alert);
  if (found.kind === 'nobody') return found;

  const choice = chooseReading(found.readings, event, alert.rule, host);
  if (choice === null) {
    return { kind: 'ambiguous', detail: 'where the addresses end and the ports begin cannot be told' };
  }
  const { tuple, direction } = choice;
  const both = `${formatAddress(tuple.client.address)} and ${formatAddress(tuple.server.address)}`;
  if (direction.kind === 'ambiguous') {
    return { kind: 'ambiguous', detail: `neither of ${both} is known to be this host's, and the alert does not tell` };
  }
  if (direction.kind === 'own') {
    if (direction.half === null) return { kind: 'own', address: null, detail: `both ${both} are this host's own` };
    const { address } = tuple[direction.half];
    const role = direction.half === 'client' ? 'came from' : 'went to';
    return {
      kind: 'own',
      address,
      detail: `the connection ${role} ${formatAddress(address)}, which is this host's own`,
    };
  }
  const offender = tuple[direction.half];
  const attempted = event === 'connect' && hasFailed(alert);
  return {
    kind: 'offender',
    offender,
    way: direction.way,
    protocol: textField(fields, 'fd.l4proto')?.toLowerCase() ?? null,
    event,
    proven: fields !== null && !attempted,
    detail: `${formatAddress(offender.address)} is ${describe(direction, event, attempted)}`,
  };
}

function whyNobody(alert: Alert): Naming | null {
  const source = alert.source.toLowerCase();
  // Internal events carry figures and even an interface's address; 0.29 and older name no source
  if (source === 'internal' || alert.rule.startsWith('Falco internal:')) {
    return nobody('not_network', 'it is an event of Falco itself');
  }
  if (source !== 'syscall') return nobody('plugin_source', 'it is of a plugin, and no policy names plugin sources');
  const type = textField(alert.fields, 'fd.type')?.toLowerCase() ?? null;
  if (type === 'unix') return nobody('unix_socket', 'both ends of a unix socket are on this host');
  const event = textField(alert.fields, 'evt.type');
  if (event === 'listen' || event === 'bind')
    return nobody('listening', 'a listening socket has nobody on the other side');
  const isSocket = type === null ? event === null || !pathEvents.test(event) : type === 'ipv4' || type === 'ipv6';
  if (!isSocket) return nobody('not_network', 'it is not about a socket');
  return null;
}

type Found =
  | { readonly kind: 'tuple'; readonly readings: readonly [Tuple, ...Tuple[]] }
  | (Naming & { kind: 'nobody' });

function tuplesInFields(alert: Alert): Found {
  const { fields } = alert;
  const text = textField(fields, 'fd.name');
  const name = text === null ? null : readSocketName(text, hasPorts(alert));
  if (name?.kind === 'unix') return nobody('unix_socket', 'both ends of a unix socket are on this host');

  const client = readAddressField(alert, 'fd.cip');
  const server = readAddressField(alert, 'fd.sip');
  if (client !== null && server !== null) {
    const named = name?.kind === 'tuple' ? name.readings : [];
    const same = named.find((t) => sameAddress(t.client.address, client) && sameAddress(t.server.address, server));
    const tuple = {
      client: { address: client, port: portField(fields, 'fd.cport') ?? same?.client.port ?? null },
      server: { address: server, port: portField(fields, 'fd.sport') ?? same?.server.port ?? null },
    };
    return { kind: 'tuple', readings: [tuple] };
  }
  if (name?.kind === 'tuple') return name;
  if (name?.kind === 'bound') return nobody('listening', 'a bound socket has nobody on the other side');
  return isAboutNetwork(alert)
    ? nobody('no_tuple', 'it prints no pair of addresses (fd.name)')
    : nobody('not_network', 'it is not about a network connection');
}

/**
 * Only for an alert without any `output_fields`: the `connection=` token directly after the rule's own text, as in
 * `… Notice Disallowed SSH Connection | connection=…`. Further right the output holds command lines, which the attacker
 * writes. The text before may hold only what rules' own texts are made of.
 */
function tuplesInOutput(output: string): Found {
  const token =
    /^(?:[0-9T:.+-]{8,40}Z?: )?[A-Za-z0-9 ,;:'/_-]{1,200}(?:\| |\()connection=([^\s()]{1,160})(?=[\s)]|$)/.exec(
      output.slice(0, 512),
    )?.[1];
  const name = token === undefined ? null : readSocketName(token, null);
  if (name?.kind === 'tuple') return name;
  if (name?.kind === 'unix') return nobody('unix_socket', 'both ends of a unix socket are on this host');
  if (name?.kind === 'bound') return nobody('listening', 'a bound socket has nobody on the other side');
  return token === undefined
    ? nobody('not_network', 'it has no output_fields, and its text does not begin with a connection')
    : nobody('no_tuple', 'it has no output_fields, and the connection in its text is no pair of addresses');
}

/**
 * Of two readings (with and without ports) the one that shows an address of ours. Null: both or neither do, it cannot be
 * told. Rare: a port above 9999 is no group of an IPv6 address, and both halves are of one form.
 */
function chooseReading(
  readings: readonly [Tuple, ...Tuple[]],
  event: string | null,
  rule: string,
  host: HostFacts,
): { readonly tuple: Tuple; readonly direction: Direction } | null {
  const directed = readings.map((tuple) => ({ tuple, direction: direct(tuple, event, rule, host) }));
  if (directed.length === 1) return directed[0] ?? null;
  const withOurs = directed.filter(
    ({ tuple }) => isOurs(tuple.client.address, host) || isOurs(tuple.server.address, host),
  );
  return withOurs.length === 1 ? (withOurs[0] ?? null) : null;
}

/** Whether the halves of `fd.name` carry ports; null = the alert does not tell. */
function hasPorts(alert: Alert): boolean | null {
  const protocol = textField(alert.fields, 'fd.l4proto')?.toLowerCase();
  if (protocol === 'tcp' || protocol === 'udp') return true;
  if (protocol !== undefined && /^(icmp|raw)/.test(protocol)) return false;
  // Port 0 proves nothing: it may stand for "none"
  const ports = ['fd.cport', 'fd.sport', 'fd.lport', 'fd.rport'].map((key) => portField(alert.fields, key));
  if (ports.some((port) => port !== null && port > 0)) return true;
  // Only sockets with ports listen and accept
  const event = textField(alert.fields, 'evt.type');
  return event === 'accept' || event === 'accept4' ? true : null;
}

/** A pending connect (EINPROGRESS) has proven nothing yet. Most alerts print no result: those count as connected. */
function hasFailed(alert: Alert): boolean {
  const result = textField(alert.fields, 'evt.res');
  if (result !== null) return result.toUpperCase() !== 'SUCCESS' && !/^\d+$/.test(result);
  const raw = integerField(alert.fields, 'evt.rawres') ?? integerField(alert.fields, 'evt.res');
  return (raw !== null && raw < 0) || truthField(alert.fields, 'evt.failed') === true;
}

function isAboutNetwork(alert: Alert): boolean {
  const event = textField(alert.fields, 'evt.type');
  return (
    textField(alert.fields, 'fd.type') !== null ||
    alert.tags.includes('network') ||
    (event !== null && socketEvents.has(event))
  );
}

function readAddressField(alert: Alert, key: string): Address | null {
  const text = textField(alert.fields, key);
  return text === null ? null : readHost(text);
}

function describe(direction: Direction & { kind: 'offender' }, event: string | null, attempted: boolean): string {
  const by = event === null ? '' : ` (${/^\w{1,20}$/.test(event) ? event : 'unknown call'})`;
  if (attempted) return `the server that a connection from here was only tried to${by}`;
  if (direction.way === 'outbound') return `the server that a connection from here went to${by}`;
  if (direction.way === 'inbound') return `the client that a connection to here came from${by}`;
  return `the server that something was sent to${by}`;
}

function nobody(reason: IgnoreReason, detail: string): Naming & { kind: 'nobody' } {
  return { kind: 'nobody', reason, detail };
}
