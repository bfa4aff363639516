/** Where a Falco's gRPC server listens, as `bind_address` in its falco.yaml has it: a unix socket, or a host and a port. */
import { FalcodropError } from '../errors.ts';

export type FalcoAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** Bytes: sun_path of unix(7), less the zero at its end. */
const longestPath = 107;

/** Throws `config_invalid`. */
export function parseFalcoAddress(text: string): FalcoAddress {
  if (text.startsWith('unix:')) return parseSocket(text);
  // The host of an IPv6 address stands in brackets, for it has colons of its own.
  const [, bracketed, plain, digits = ''] = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]{1,253})):(\d{1,5})$/i.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host === undefined || port < 1 || port > 65_535) {
    throw new FalcodropError(
      'config_invalid',
      'is neither unix:///PATH nor HOST:PORT',
      'as grpc.bind_address in falco.yaml: unix:///run/falco/falco.sock, 192.0.2.10:5060, [2001:db8::10]:5060',
    );
  }
  return { host, port };
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
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
}
