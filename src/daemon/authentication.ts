/** Secrets and certificates of HTTP: read from where the configuration says they lie, and checked. */
import type { HttpConfig } from '../config/config.ts';
import { readPem, readSecret, type Secret } from '../config/secret.ts';
import { FalcodropError } from '../errors.ts';
import {
  type CredentialName,
  type Credentials,
  credentialProblem,
  requireAuthentication,
} from '../sources/http/access.ts';
import { requireTls, type TlsMaterial } from '../sources/http/tls.ts';
import type { HttpAuthentication } from '../sources/http.ts';

/** Whether there is something that can be read again while it listens. */
export function hasSecrets({ enabled, token, basic, path, tls }: HttpConfig): boolean {
  return enabled && [token, basic, path, tls].some((each) => each !== null);
}

/**
 * The secrets and certificates that HTTP's settings name, checked: none that could be guessed, no key of another certificate, no
 * wide address without any. Throws `config_invalid`, `file_unreadable`, `tls_invalid`, `authentication_missing`, and none of them
 * holds any of a secret.
 */
export function readAuthentication(config: HttpConfig, environment: NodeJS.ProcessEnv): HttpAuthentication {
  const credentials: Credentials = {
    token: readCredential('token', config.token, environment),
    basic: readCredential('basic', config.basic, environment),
    path: readCredential('path', config.path, environment),
  };
  const tls = config.tls === null ? null : readTls(config.tls, environment);
  requireAuthentication(config.address, credentials, tls !== null && tls.clientCa !== null);
  return { credentials, tls };
}

function readCredential(name: CredentialName, secret: Secret | null, environment: NodeJS.ProcessEnv): string | null {
  if (secret === null) return null;
  const value = readSecret(secret, environment);
  const problem = credentialProblem(name, value);
  if (problem === null) return value;
  throw new FalcodropError('config_invalid', `http.${name}: ${problem}`, 'openssl rand -hex 32 makes a good one');
}

function readTls({ cert, key, clientCa }: NonNullable<HttpConfig['tls']>, environment: NodeJS.ProcessEnv): TlsMaterial {
  if (cert === null || key === null) {
    throw new FalcodropError(
      'tls_invalid',
      `http.tls names no ${cert === null ? 'certificate' : 'key'}`,
      'http.tls.cert and http.tls.key belong together; http.tls.client_ca needs both',
    );
  }
  const material: TlsMaterial = {
    cert: readPem('certificate', cert, environment),
    key: readPem('key', key, environment),
    clientCa: clientCa === null ? null : readPem('certificate', clientCa, environment),
  };
  requireTls(material);
  return material;
}
