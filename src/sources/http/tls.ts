/** Certificates, as text that was read by whoever configures them. */
import type { SecureContextOptions } from 'node:tls';
import { readCertificate, requirePair } from '../pair.ts';

/** PEM. */
export interface TlsMaterial {
  /** The server's certificate, and those between it and its CA. */
  readonly cert: string;
  readonly key: string;
  /** Whose client certificates are taken; null: none is asked for. */
  readonly clientCa: string | null;
}

/** TLS 1.2 is what the curl of old distributions speaks. */
export function secureOptions({
  cert,
  key,
  clientCa,
}: TlsMaterial): SecureContextOptions & Pick<TlsMaterial, 'cert' | 'key'> {
  return { cert, key, minVersion: 'TLSv1.2', ...(clientCa === null ? {} : { ca: clientCa }) };
}

/** Throws `tls_invalid`, with nothing of the key. Returns when the server's certificate ends, in ms since 1970. */
export function requireTls(material: TlsMaterial): number {
  // Node takes any text for a CA, and would trust nobody.
  if (material.clientCa !== null) readCertificate(material.clientCa, 'http.tls.client_ca');
  return requirePair(secureOptions(material), 'http.tls');
}
