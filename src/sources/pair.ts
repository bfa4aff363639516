/** A certificate and its key, as text that was read by whoever configures them. */
import { X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { FalcodropError } from '../errors.ts';

const notTheKey: ReadonlySet<string> = new Set([
  'ERR_OSSL_X509_KEY_VALUES_MISMATCH',
  'ERR_OSSL_X509_KEY_TYPE_MISMATCH',
]);

/**
 * `level` holds `cert` and `key` in the configuration. Throws `tls_invalid`, with nothing of the key, for what TLS could not use.
 * Returns when the certificate ends, in ms since 1970.
 */
export function requirePair(options: SecureContextOptions & { readonly cert: string }, level: string): number {
  const certificate = readCertificate(options.cert, `${level}.cert`);
  try {
    createSecureContext(options);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (notTheKey.has(code)) {
      const hint = 'name the two that belong together';
      throw new FalcodropError('tls_invalid', `${level}.key: it is not the key of ${level}.cert`, hint);
    }
    throw new FalcodropError('tls_invalid', `${level}.key: it is no private key in PEM without a passphrase`);
  }
  return Date.parse(certificate.validTo);
}

/** The first one in the text. Throws `tls_invalid`. */
export function readCertificate(text: string, setting: string): X509Certificate {
  try {
    return new X509Certificate(text);
  } catch {
    throw new FalcodropError('tls_invalid', `${setting}: it is no certificate in PEM`);
  }
}
