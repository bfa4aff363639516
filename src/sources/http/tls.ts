/** Certificates, as text that was read by whoever configures them. */
import { X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { FalcodropError } from '../../errors.ts';

/** PEM. */
export interface TlsMaterial {
  /** The server's certificate, and those between it and its CA. */
  readonly cert: string;
  readonly key: string;
  /** Whose client certificates are taken; null: none is asked for. */
  readonly clientCa: string | null;
}

/** TLS 1.2 is what the curl of old distributions speaks. */
export function secureOptions({ cert, key, clientCa }: TlsMaterial): SecureContextOptions {
  return { cert, key, minVersion: 'TLSv1.2', ...(clientCa === null ? {} : { ca: clientCa }) };
}

/** Throws `tls_invalid`, with nothing of the key. Returns when the server's certificate ends, in ms since 1970. */
export function requireTls(material: TlsMaterial): number {
  const certificate = readCertificate(material.cert, 'http.tls.cert');
  // Node takes any text for a CA, and would trust nobody.
  if (material.clientCa !== null) readCertificate(material.clientCa, 'http.tls.client_ca');
  try {
    createSecureContext(secureOptions(material));
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    // OpenSSL asks for a passphrase in several ways, and fails in as many.
    const [sentence, hint] = /ENCRYPTED/.test(material.key)
      ? ['it is encrypted', 'a daemon can not be asked: openssl pkey -in … -out …']
      : (whyNoKey[code] ?? ['it is no private key in PEM', undefined]);
    throw new FalcodropError('tls_invalid', `http.tls.key: ${sentence}`, hint);
  }
  return Date.parse(certificate.validTo);
}

const whyNoKey: Readonly<Record<string, readonly [sentence: string, hint: string]>> = {
  ERR_OSSL_X509_KEY_VALUES_MISMATCH: ['it is not the key of http.tls.cert', 'name the two that belong together'],
  ERR_OSSL_X509_KEY_TYPE_MISMATCH: ['it is not the key of http.tls.cert', 'name the two that belong together'],
};

function readCertificate(text: string, setting: string): X509Certificate {
  try {
    return new X509Certificate(text);
  } catch {
    throw new FalcodropError('tls_invalid', `${setting}: it is no certificate in PEM`);
  }
}
