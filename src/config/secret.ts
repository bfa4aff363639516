/**
 * Secrets: where one lies, never itself. A configuration is shown, copied and asked about; what stands in the environment
 * every process of the user reads (/proc/PID/environ).
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import * as z from 'zod';
import { FalcodropError } from '../errors.ts';
import { settingName } from './explain.ts';
import type { Settings } from './layer.ts';
import type { Problem } from './problem.ts';
import type { Held } from './reading.ts';
import type { Pem, Told } from './shape.ts';
import { largestFile, readText, type TextFile } from './text.ts';

export type Secret = { readonly file: string } | { readonly credential: string };

/** Bytes; keys and tokens are short, a file of certificates may hold all that a distribution trusts. */
const largestSecret = 65_536;

/** systemd.exec(5), LoadCredential=: a file name in the directory of the unit's credentials. */
const credentialName = /^[A-Za-z0-9_][\w.-]{0,254}$/;

/** A setting whose value is a secret: `{ file: /PATH }` or `{ credential: NAME }`. */
export function secret(description: string, name: string) {
  const tells: Told = {
    description,
    'x-secret': true,
    'x-expects': '{ file: PATH } or { credential: NAME }',
    'x-example': { file: `/etc/falcodrop/secrets/${name}` },
  };
  return z
    .strictObject({
      file: z
        .string()
        .max(4_095)
        .refine((path) => path.startsWith('/') && !path.includes('\0'), { error: 'is no absolute path of a file' })
        .optional(),
      credential: z
        .string()
        .refine((text) => credentialName.test(text), { error: 'is no name of a credential' })
        .optional(),
    })
    .transform(({ file, credential }, context): Secret => {
      if (file !== undefined && credential === undefined) return { file };
      if (credential !== undefined && file === undefined) return { credential };
      context.issues.push({ code: 'custom', input: null, message: 'names either a file or a credential' });
      return z.NEVER;
    })
    .meta({ ...tells });
}

/** A setting whose value is PEM: as {@link secret}, read with {@link readPem}. */
export function pem(kind: Pem, description: string, name: string) {
  return secret(description, name).meta({ 'x-pem': kind } satisfies Told);
}

/** The path; null for a credential where systemd has given none (`$CREDENTIALS_DIRECTORY`). */
export function secretPath(secret: Secret, environment: NodeJS.ProcessEnv): string | null {
  if ('file' in secret) return secret.file;
  const { CREDENTIALS_DIRECTORY: directory } = environment;
  return directory === undefined || directory === '' ? null : join(directory, secret.credential);
}

/** S_IRWXO, S_IWOTH. */
const others = 0o007;
const othersWrite = 0o002;

/**
 * The secret, without the end of line that editors and `echo` leave. Throws `file_unreadable`, and `config_invalid` when it is
 * empty, not one line, or everybody may read it. No message holds any of it.
 */
export function readSecret(secret: Secret, environment: NodeJS.ProcessEnv): string {
  const { path, text } = readFile(secret, environment, 'secret');
  const value = text.replace(/\r?\n$/, '');
  if (value === '') throw new FalcodropError('config_invalid', `${path}: there is no secret in it`);
  if (/[\0\r\n]/.test(value)) throw new FalcodropError('config_invalid', `${path}: a secret is one line of text`);
  return value;
}

/**
 * A private key, or certificates, as they stand in the file; the first certificate is looked at. Throws `file_unreadable`;
 * `config_invalid` where others may do with the file what they should not; `tls_invalid` for what is no such PEM, and for a key with a
 * passphrase. No message holds any of a key.
 */
export function readPem(kind: Pem, secret: Secret, environment: NodeJS.ProcessEnv): string {
  const { path, text } = readFile(secret, environment, kind === 'key' ? 'secret' : 'public');
  try {
    if (kind === 'key') createPrivateKey(text);
    else new X509Certificate(text);
    return text;
  } catch (error) {
    if (kind === 'certificate') {
      throw new FalcodropError('tls_invalid', `${path}: there is no certificate in it`, undefined, error);
    }
    const isLocked = /^-----BEGIN ENCRYPTED|^Proc-Type:.*ENCRYPTED/m.test(text);
    throw new FalcodropError(
      'tls_invalid',
      isLocked ? `${path}: the key has a passphrase` : `${path}: there is no private key in it`,
      isLocked ? 'openssl pkey -in KEY -out NEW takes it off; the permissions of the file protect it' : undefined,
      error,
    );
  }
}

function readFile(
  secret: Secret,
  environment: NodeJS.ProcessEnv,
  kind: 'secret' | 'public',
): { readonly path: string; readonly text: string } {
  const path = secretPath(secret, environment);
  if (path === null) {
    const name = 'credential' in secret ? secret.credential : '';
    throw new FalcodropError(
      'config_invalid',
      `the credential ${name} is not there: systemd has given none`,
      `add LoadCredential=${name}:/PATH to the unit, or name a file`,
    );
  }
  const { text, stats } = readNamed(path, kind === 'public' ? largestFile : largestSecret);
  if (kind === 'public' && (stats.mode & othersWrite) !== 0) {
    throw new FalcodropError('config_invalid', `${path}: everybody may write it`, `chmod o-w ${path}`);
  }
  if (kind === 'secret' && (stats.mode & others) !== 0) {
    throw new FalcodropError(
      'config_invalid',
      `${path}: everybody may read or write this secret`,
      `chmod o= ${path}, and make another one: it may be known`,
    );
  }
  return { path, text };
}

/** With a hint for files that the configuration names, which itself is named on the command line. */
function readNamed(path: string, largest: number): TextFile {
  try {
    return readText(path, largest);
  } catch (error) {
    if (!(error instanceof FalcodropError) || error.code !== 'file_unreadable') throw error;
    throw new FalcodropError(
      error.code,
      error.message,
      'the configuration names it; falcodrop check tells where',
      error.cause,
    );
  }
}

/**
 * What is wrong with the secrets that settings name. A credential is there only for the unit, and a file that may not be read by
 * who asks may be by the service: neither is a problem.
 */
export function secretProblems(held: readonly Held[], environment: NodeJS.ProcessEnv): Problem[] {
  return held.flatMap(secretsIn).flatMap(({ path, shape, value, place }): Problem[] => {
    const named = value as Secret;
    if (secretPath(named, environment) === null) return [];
    try {
      if (shape['x-pem'] === undefined) readSecret(named, environment);
      else readPem(shape['x-pem'], named, environment);
      return [];
    } catch (error) {
      if (!(error instanceof FalcodropError)) throw error;
      if ((error.cause as NodeJS.ErrnoException | undefined)?.code === 'EACCES') return [];
      const setting = settingName(path);
      // Here it is told where.
      const hint = error.code === 'file_unreadable' ? null : (error.hint ?? null);
      return [{ code: 'config_invalid', place, setting, message: `${setting}: ${error.message}`, hint }];
    }
  });
}

/** A setting that is a secret, or the secrets in the elements of a list. */
function secretsIn({ path, shape, value, place }: Secretive): Secretive[] {
  if (value === undefined) return [];
  if (shape['x-secret'] === true) return [{ path, shape, value, place }];
  const { items, properties } = shape;
  if (items !== undefined && Array.isArray(value)) {
    return value.flatMap((element, n) => secretsIn({ path: [...path, n], shape: items, value: element, place }));
  }
  if (properties === undefined || typeof value !== 'object' || value === null) return [];
  return Object.entries(properties).flatMap(([key, inner]) =>
    secretsIn({ path: [...path, key], shape: inner, value: (value as Settings)[key], place }),
  );
}

interface Secretive extends Pick<Held, 'shape' | 'value' | 'place'> {
  readonly path: readonly PropertyKey[];
}
