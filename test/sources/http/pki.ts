/** A small CA, made by openssl, and what it signs. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: string;
  readonly key: string;
}

export interface Authority extends Certificate {
  /** `from` and `to` as YYMMDDHHMMSSZ. */
  issue(name: string, validity?: { readonly from: string; readonly to: string }): Certificate;
}

export interface Pki {
  readonly folder: string;
  authority(name: string): Authority;
  remove(): void;
}

/** X.509 counts years below 50 from 2000 (RFC 5280, 4.1.2.5.1). */
const alwaysValid = { from: '200101000000Z', to: '490101000000Z' };
export const expired = { from: '200101000000Z', to: '210101000000Z' };

export function openPki(): Pki {
  const folder = mkdtempSync(join(tmpdir(), 'fd-pki-'));
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
  };
  const read = (name: string): Certificate => {
    const [certFile, keyFile] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)];
    return { certFile, keyFile, cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
  };
  const request = (name: string, ...more: string[]): void => {
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', `${name}.key`];
    openssl('req', ...key, '-subj', `/CN=${name}`, ...more);
  };
  return {
    folder,
    remove: () => rmSync(folder, { recursive: true, force: true }),
    authority: (name) => {
      request(name, '-x509', '-days', '3650', '-out', `${name}.crt`);
      mkdirSync(join(folder, `${name}.issued`));
      for (const [file, text] of [
        ['index.txt', ''],
        ['serial', '01'],
      ] as const)
        writeFileSync(join(folder, `${name}.${file}`), text);
      writeFileSync(
        join(folder, `${name}.cnf`),
        `[ca]\ndefault_ca = own\n[own]\ndatabase = ${name}.index.txt\nserial = ${name}.serial\nnew_certs_dir = ${name}.issued\n` +
          `certificate = ${name}.crt\nprivate_key = ${name}.key\ndefault_md = sha256\npolicy = any\ncopy_extensions = copy\n` +
          'unique_subject = no\n[any]\ncommonName = supplied\n',
      );
      return {
        ...read(name),
        issue: (subject, { from, to } = alwaysValid) => {
          request(subject, '-new', '-out', `${subject}.csr`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1');
          const dates = ['-startdate', from, '-enddate', to];
          openssl(
            'ca',
            '-batch',
            '-config',
            `${name}.cnf`,
            '-in',
            `${subject}.csr`,
            '-out',
            `${subject}.crt`,
            ...dates,
          );
          const { cert, ...rest } = read(subject);
          // What `openssl ca` writes before it in words.
          const pem = cert.slice(cert.indexOf('-----BEGIN'));
          writeFileSync(rest.certFile, pem);
          return { ...rest, cert: pem };
        },
      };
    },
  };
}
