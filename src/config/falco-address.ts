/** Where a Falco's gRPC server listens, as `bind_address` in its falco.yaml has it: a unix socket, or a host and a port. */
import { FalcodropError } from '../errors.ts';
import { formatHostPort, type HostPort, parseHostPort } from './host-port.ts';

export type FalcoAddress = { readonly path: string } | HostPort;

/** Bytes: sun_path of unix(7), less the zero at its end. */
const longestPath = 107;

/** Throws `config_invalid`. */
export function parseFalcoAddress(text: string): FalcoAddress {
  if (text.startsWith('unix:')) return parseSocket(text);
  const address = parseHostPort(text);
  if (address === null) {
    throw new FalcodropError(
      'config_invalid',
      'is neither unix:///PATH nor HOST:PORT',
      'as grpc.bind_address in falco.yaml: unix:///run/falco/falco.sock, 192.0.2.10:5060, [2001:db8::10]:5060',
    );
  }
  return address;
}

/** `unix:///PATH`, and `unix:/PATH`, which gRPC takes for the same. */
function parseSocket(text: string): FalcoAddress {
  const path = text.slice('unix:'.length).replace(/^\/{3}/, '/');
  if (!/^\/[^/\0]/.test(path) || path.endsWith('/')) {
    throw new FalcodropError('config_invalid', 'names no absolute path', 'as in unix:///run/falco/falco.sock');
  }
  if (Buffer.byteLength(path) > longestPath) {
    throw new FalcodropError(
      'config_invalid',
      `has a path of more than ${longestPath} bytes, the most a socket may have`,
    );
  }
  return { path };
}

/** The one way of writing it. */
export function formatFalcoAddress(address: FalcoAddress): string {
  if ('path' in address) return `unix://${address.path}`;
  return formatHostPort(address);
}
