/**
 * How a test alert gets into a source: the way that others' alerts come, through its socket with its secrets, its file, its
 * journal. Where it goes says the configuration, never the daemon: root does not write where the service tells him to.
 */
import { spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { accessSync, closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { type RequestOptions, request } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { delimiter, join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import { createSecureContext, type TLSSocket } from 'node:tls';
import type { Config, JournalConfig } from '../config/config.ts';
import { readText } from '../config/text.ts';
import { readAuthentication } from '../daemon/authentication.ts';
import type { SourceReport } from '../daemon/sources.ts';
import { FalcodropError } from '../errors.ts';
import type { HttpAuthentication } from '../sources/http.ts';
import { type Call, isRoot, text } from './call.ts';
import { clean } from './output/clean.ts';

export interface Sender {
  /** Resolves when it is handed over. Rejects with `test_not_sent`. */
  readonly send: (alert: string, report: SourceReport) => Promise<void>;
  /** Why it may not have got there though it was sent; null: nothing is known. */
  readonly trouble: () => string | null;
  readonly close: () => void;
}

/** Sources of the configuration that an alert can be sent to, by name: the one to take when none is named comes first. */
export function writableSources({ http, lines, journal }: Config): string[] {
  return [
    ...(http.enabled ? ['http'] : []),
    ...(http.socket === null ? [] : ['http:unix']),
    ...lines.files.filter(({ follow }) => follow).map(({ path }) => `file:${path}`),
    ...(journal.enabled ? ['journal'] : []),
  ];
}

/**
 * What sending needs that only who calls may do: secrets, files, names of processes. Throws what reading secrets throws,
 * `source_missing`, `source_read_only`, `test_not_sent`.
 */
export function prepareSender(call: Call, config: Config, name: string): Sender {
  const { http, lines, journal } = config;
  if (name === 'http' && http.enabled) return overTcp(call, config);
  if (name === 'http:unix' && http.socket !== null) return overSocket(http.socket);
  const file = lines.files.find(({ path }) => name === `file:${path}`);
  if (file?.follow === true) return intoFile(file.path);
  if (name === 'journal' && journal.enabled) return intoJournal(call, journal);
  throw readOnly(name, config);
}

/** Why nobody can put an alert there, and what shows the same. */
function readOnly(name: string, config: Config): FalcodropError {
  const why = [
    [/^grpc:/, 'a Falco is asked there for its alerts, and takes none from others'],
    [/^kafka/, 'its broker is asked for records, and none of ours is to be in a topic of others'],
    [/^stdin$/, 'stdin is a pipe that somebody else holds'],
    [/^file:/, 'it is read once, or not named in the configuration'],
  ] as const;
  const known = why.find(([form]) => form.test(name))?.[1];
  const writable = writableSources(config);
  if (known !== undefined) {
    return new FalcodropError(
      'source_read_only',
      `no test alert can be sent to ${clean(name, 200)}: ${known}`,
      `falcodrop test-alert --through-falco has Falco send one${writable.length === 0 ? '' : `; or take ${writable.join(', ')}`}`,
    );
  }
  return missing(name, writable);
}

export function missing(name: string, known: readonly string[]): FalcodropError {
  return new FalcodropError(
    'source_missing',
    `there is no source ${clean(name, 200)}`,
    known.length === 0 ? 'falcodrop sources lists them' : `there is ${known.map((one) => clean(one, 200)).join(', ')}`,
  );
}

export function notSent(message: string, hint?: string, cause?: unknown): FalcodropError {
  return new FalcodropError('test_not_sent', `not sent: ${message}`, hint, cause);
}

const nothing = { trouble: () => null, close: () => undefined };

/** For the connection and the answer; the daemon answers in a millisecond. */
const answerMs = 5_000;

function overTcp(call: Call, { http }: Config): Sender {
  const authentication = readAuthentication(http, call.environment);
  const { credentials, tls } = authentication;
  const own = ownCertificate(call, authentication);
  // Where nobody else listens: a wildcard is no place to connect to.
  const host = http.address === '0.0.0.0' ? '127.0.0.1' : http.address === '::' ? '::1' : http.address;
  const { token, basic, path } = credentials;
  const authorization =
    path !== null
      ? null
      : token !== null
        ? `Bearer ${token}`
        : basic !== null
          ? `Basic ${Buffer.from(basic).toString('base64')}`
          : null;
  return {
    ...nothing,
    send: (alert, { place }) => {
      const told = portOf(place);
      const port = http.port === 0 ? told : http.port;
      // Somebody else may listen there, and would be shown the secret.
      if (port !== told) {
        throw notSent(
          `the daemon listens at port ${told}, and http.port is ${port}`,
          'the daemon reads its configuration when it is started',
        );
      }
      return post(
        {
          ...{ host, port, path: path === null ? '/' : `/${path.replace(/^\//, '')}` },
          headers: authorization === null ? {} : { authorization },
          ...(tls === null ? {} : { rejectUnauthorized: false, ...own }),
        },
        alert,
        tls === null ? null : new X509Certificate(tls.cert),
      );
    },
  };
}

/** `--cert` and `--key`: what a sender shows where `http.tls.client_ca` asks for it. */
function ownCertificate(call: Call, { tls }: HttpAuthentication): { cert: string; key: string } | null {
  const [cert, key] = [text(call, 'cert'), text(call, 'key')];
  if ((cert === undefined) !== (key === undefined)) {
    throw new FalcodropError('usage', '--cert and --key belong together', 'name both');
  }
  if (cert !== undefined && key !== undefined) {
    const own = { cert: readText(cert).text, key: readText(key).text };
    try {
      createSecureContext(own);
    } catch (error) {
      throw notSent(
        `--cert and --key can not be used: ${(error as Error).message}`,
        'name a certificate and its own key, both in PEM and without a passphrase',
        error,
      );
    }
    return own;
  }
  if (tls === null || tls.clientCa === null) return null;
  throw notSent(
    'http.tls.client_ca asks senders for a certificate',
    'falcodrop test-alert --cert client.crt --key client.key, or --source another',
  );
}

function portOf(place: string | null): number {
  const port = Number(/:(\d{1,5})$/.exec(place ?? '')?.[1]);
  if (port > 0) return port;
  throw notSent('the daemon does not tell at which port it listens');
}

function overSocket(socketPath: string): Sender {
  return { ...nothing, send: (alert) => post({ socketPath, path: '/' }, alert, null) };
}

/** `expected`: the certificate that is shown must be the one of the configuration, whoever signed it. */
function post(options: RequestOptions, alert: string, expected: X509Certificate | null): Promise<void> {
  return new Promise((resolve, reject) => {
    const ask = (expected === null ? request : tlsRequest)({ ...options, method: 'POST', agent: false });
    const fail = (error: unknown): void => {
      ask.destroy();
      reject(error instanceof FalcodropError ? error : notSent(sentenceOf(error), hintOf(error), error));
    };
    const late = setTimeout(() => fail(notSent(`no answer within ${answerMs / 1000} s`)), answerMs);
    ask.on('error', fail);
    ask.on('close', () => clearTimeout(late));
    ask.on('response', (response) => {
      let said = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        if (said.length < 1_000) said += piece;
      });
      response.on('error', fail);
      response.on('end', () => {
        const { statusCode = 0 } = response;
        if (statusCode === 202) resolve();
        else
          fail(
            notSent(
              `the answer is ${statusCode}${said === '' ? '' : `: ${clean(said.trim(), 300)}`}`,
              answers[statusCode],
            ),
          );
      });
    });
    const write = (): void => void ask.end(alert);
    if (expected === null) {
      write();
      return;
    }
    // Secrets go in the header, which is not written before the first byte of the body.
    ask.on('socket', (socket) => {
      socket.once('secureConnect', () => {
        const shown = (socket as TLSSocket).getPeerX509Certificate();
        if (shown?.fingerprint256 === expected.fingerprint256) write();
        else
          fail(
            notSent('who answers shows another certificate than http.tls.cert', 'SIGHUP has the daemon read it anew'),
          );
      });
    });
  });
}

const answers: Readonly<Record<number, string>> = {
  401: 'the daemon has other secrets than the configuration: SIGHUP has it read them anew',
  403: 'the daemon has other secrets than the configuration: SIGHUP has it read them anew',
  429: 'http.rate is used up by senders on this host',
  503: 'its queue is full: falcodrop sources tells what is shed',
};

function sentenceOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return sentences[code ?? ''] ?? message;
}

const sentences: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nobody listens there',
  ENOENT: 'it is not there',
  EACCES: 'this user may not write to it',
  EPERM: 'this user may not write to it',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the quota of the disk is used up',
  EROFS: 'the file system is read-only',
  ELOOP: 'it is a symbolic link',
  EISDIR: 'it is a directory',
  ECONNRESET: 'the connection was cut',
};

function hintOf(error: unknown): string | undefined {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EACCES' || code === 'EPERM') return 'sudo falcodrop test-alert …';
  return code === 'ENOENT' ? 'Falco makes it with its first alert; until then the source waits' : undefined;
}

/** A line at the end of the log: it stays there, as every alert does. */
function intoFile(path: string): Sender {
  let descriptor: number | null = null;
  try {
    // Neither made nor followed: a link or a pipe is no log of Falco's.
    const { O_RDWR, O_APPEND, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY } = constants;
    descriptor = openSync(path, O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    const status = fstatSync(descriptor);
    if (!status.isFile() || status.nlink > 1) throw notSent(`${path} is no regular file with this one name`);
  } catch (error) {
    if (descriptor !== null) closeSync(descriptor);
    throw error instanceof FalcodropError ? error : notSent(`${path}: ${sentenceOf(error)}`, hintOf(error), error);
  }
  const opened = descriptor;
  return {
    trouble: () => null,
    send: async (alert) => {
      try {
        // A long alert of Falco's comes in several writes: it would be lost with this one in its middle.
        for (let n = 0; n < mostLooks && isMidLine(opened); n++) await after(lookEveryMs);
        const line = Buffer.from(`${isMidLine(opened) ? '\n' : ''}${alert}\n`);
        if (writeSync(opened, line) !== line.length) throw notSent(`${path}: the disk is full`);
      } catch (error) {
        throw error instanceof FalcodropError ? error : notSent(`${path}: ${sentenceOf(error)}`, undefined, error);
      }
    },
    close: () => closeSync(opened),
  };
}

const lookEveryMs = 20;
const mostLooks = 50;

function isMidLine(descriptor: number): boolean {
  const { size } = fstatSync(descriptor);
  const last = Buffer.alloc(1);
  return size > 0 && readSync(descriptor, last, 0, 1, size - 1) === 1 && last[0] !== 0x0a;
}

/** Calls itself falco, as any process may, and says the lines from stdin as they are. */
const asFalco = 'echo falco > /proc/$$/comm; while IFS= read -r line; do printf "%s\\n" "$line"; done';

/**
 * journald writes down who sends: `_COMM` and `_UID` are its own words, of /proc/PID when the first line comes. systemd-cat
 * becomes the command it is given, and a shell of root's under the name of falco is taken where `_COMM=falco _UID=0` is.
 */
function intoJournal(call: Call, { matches, directory }: JournalConfig): Sender {
  const shown = new Set(['_COMM=falco', '_UID=0']);
  const why =
    directory !== null
      ? `the journal in ${directory} is written by another`
      : !matches.some((group) => group.every((field) => shown.has(field)))
        ? 'journal.matches has no "_COMM=falco _UID=0", and nobody else than Falco can look like its unit'
        : null;
  if (why !== null) {
    throw new FalcodropError(
      'source_read_only',
      `no test alert can be sent to journal: ${why}`,
      'falcodrop test-alert --through-falco has Falco send one',
    );
  }
  if (!isRoot()) {
    throw new FalcodropError(
      'not_permitted',
      'only root looks like Falco in the journal',
      `sudo falcodrop ${call.verb} …`,
    );
  }
  const program = inPath('systemd-cat', call.environment);
  if (program === null) throw notSent('there is no systemd-cat in PATH', 'it comes with systemd');
  let trouble: string | null = null;
  const child = spawn(program, ['--level-prefix=no', '/bin/sh', '-c', asFalco], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  child.on('error', (error) => {
    trouble = `systemd-cat: ${error.message}`;
  });
  child.on('exit', (code) => {
    if (code !== null && code !== 0) trouble = `systemd-cat ended with ${code}: journald does not take it`;
  });
  child.stdin.on('error', () => undefined); // it has ended, which is heard of by itself
  return {
    trouble: () => trouble,
    // Alive until it was seen: journald looks at the process when it reads the line.
    send: async (alert) => {
      if (trouble !== null) throw notSent(trouble);
      await new Promise<void>((resolve) => child.stdin.write(`${alert}\n`, () => resolve()));
    },
    close: () => {
      child.stdin.end();
      child.unref();
    },
  };
}

function inPath(program: string, { PATH = '' }: NodeJS.ProcessEnv): string | null {
  for (const folder of PATH.split(delimiter)) {
    if (!folder.startsWith('/')) continue;
    const path = join(folder, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // the next one
    }
  }
  return null;
}
