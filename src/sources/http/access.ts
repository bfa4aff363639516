/**
 * Who may send. A request is admitted with any one of the secrets that are configured: a bearer token, user and password
 * (Falco puts them into the URL, `http://user:password@host/`, and curl makes `Authorization: Basic` of it), or a secret path
 * (Falco can send no header of its own). Certificates of clients are asked for by TLS, before any of it.
 */
import { hash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { BlockList, isIPv4, isIPv6 } from 'node:net';
import { FalcodropError } from '../../errors.ts';

export interface Credentials {
  readonly token: string | null;
  /** `NAME:PASSWORD`. */
  readonly basic: string | null;
  /** With or without its first slash. */
  readonly path: string | null;
}

export type CredentialName = keyof Credentials;

export const noCredentials: Credentials = { token: null, basic: null, path: null };

/** `missing`: it carries nothing that could be one. */
export type Admission = 'admitted' | 'missing' | 'wrong';

export interface Access {
  /** `path` is the request's, without its query. */
  readonly admit: (request: Pick<IncomingMessage, 'headers'>, path: string) => Admission;
  /** Whether this path is where alerts go: the secret one is, for whoever knows it. */
  readonly isSecretPath: (path: string) => boolean;
  /** For `WWW-Authenticate`; null where no header would help. */
  readonly challenge: string | null;
}

/** Characters: what can be guessed protects nothing, and what is longer is nothing that a sender keeps. */
const shortest = 16;
const longest = 1_024;

/** RFC 6750, `b64token`; RFC 3986, unreserved and the slash. */
const tokenForm = /^[A-Za-z0-9._~+/-]+=*$/;
const pathForm = /^[A-Za-z0-9._~/-]+$/;

/** What is wrong with a secret, without any of it; null = nothing. */
export function credentialProblem(name: CredentialName, secret: string): string | null {
  if (secret.length > longest) return `it has more than ${longest} characters`;
  if (name === 'token' && !tokenForm.test(secret)) return 'a token has letters, digits and -._~+/ only';
  if (name === 'path' && !pathForm.test(secret)) return 'a path has letters, digits and -._~/ only';
  let guessed = secret;
  if (name === 'path') guessed = withoutSlash(secret);
  if (name === 'basic') {
    const colon = secret.indexOf(':');
    if (colon < 1) return 'it is not NAME:PASSWORD';
    guessed = secret.slice(colon + 1);
  }
  if (guessed.length >= shortest) return null;
  return `${name === 'basic' ? 'its password' : 'it'} has less than ${shortest} characters`;
}

/** Nothing configured admits everybody: {@link requireAuthentication} says where that may be. */
export function openAccess({ token, basic, path }: Credentials): Access {
  const [tokenHash, basicHash] = [token, basic].map((secret) => (secret === null ? null : digest(secret)));
  const pathHash = path === null ? null : digest(withoutSlash(path));
  const isOpen = token === null && basic === null && path === null;
  const challenges = [
    ...(token === null ? [] : ['Bearer realm="falcodrop"']),
    ...(basic === null ? [] : ['Basic realm="falcodrop", charset="UTF-8"']),
  ];
  const isSecretPath = (given: string): boolean => matches(pathHash, withoutSlash(given));
  return {
    isSecretPath,
    challenge: challenges.length === 0 ? null : challenges.join(', '),
    admit: ({ headers: { authorization } }, given) => {
      if (isOpen || isSecretPath(given)) return 'admitted';
      if (authorization === undefined) return pathHash !== null && given !== '/' ? 'wrong' : 'missing';
      const space = authorization.indexOf(' ');
      const scheme = authorization.slice(0, Math.max(0, space)).toLowerCase();
      const value = authorization.slice(space + 1).trim();
      if (scheme === 'bearer' && matches(tokenHash, value)) return 'admitted';
      if (scheme === 'basic' && value.length <= 2 * longest && matches(basicHash, decodeBase64(value))) {
        return 'admitted';
      }
      return 'wrong';
    },
  };
}

function withoutSlash(path: string): string {
  return path.startsWith('/') ? path.slice(1) : path;
}

function decodeBase64(text: string): string {
  return Buffer.from(text, 'base64').toString('utf8');
}

function digest(secret: string): Buffer {
  return hash('sha256', secret, 'buffer');
}

/** In a time that tells nothing of the secret: both sides are hashed, so their lengths are equal whatever was sent. */
function matches(secretHash: Buffer | null | undefined, given: string): boolean {
  if (secretHash === null || secretHash === undefined || given.length > longest) return false;
  return timingSafeEqual(secretHash, digest(given));
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** Of this host alone. v4-mapped addresses are IPv4's. */
export function isLoopback(address: string): boolean {
  const bare = address.replace(/^::ffff:(?=\d+\.)/i, '');
  return (isIPv4(bare) || isIPv6(bare)) && loopback.check(bare, isIPv4(bare) ? 'ipv4' : 'ipv6');
}

/** Who can reach a wider address can have anybody blocked, so it is asked who he is. Throws `authentication_missing`. */
export function requireAuthentication(address: string, credentials: Credentials, asksCertificate: boolean): void {
  const { token, basic, path } = credentials;
  if (isLoopback(address) || asksCertificate || token !== null || basic !== null || path !== null) return;
  throw new FalcodropError(
    'authentication_missing',
    `HTTP on ${address} would take alerts from whoever reaches it`,
    'name a secret (http.token, http.basic or http.path) or the CA of client certificates (http.tls.client_ca); or let ' +
      'http.address be 127.0.0.1, or take http.socket',
  );
}
