/** Certificates as Falco's documentation has them made, by openssl: a CA, a server's, clients', and some that are wrong. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Pair {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: string;
  readonly key: string;
}

export interface Certificates {
  readonly ca: Pair;
  readonly otherCa: Pair;
  /** For `localhost` alone. */
  readonly server: Pair;
  readonly expiredServer: Pair;
  readonly client: Pair;
  readonly expiredClient: Pair;
  /** Of the other CA. */
  readonly strangeClient: Pair;
}

export function makeCertificates(directory: string): Certificates {
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] });
  };
  const pair = (name: string): Pair => {
    const [certFile, keyFile] = [join(directory, `${name}.crt`), join(directory, `${name}.key`)];
    return { certFile, keyFile, cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
  };
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const authority = (name: string): Pair => {
    openssl(
      'req',
      '-x509',
      ...newKey,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.crt`,
      '-days',
      '2',
      '-subj',
      `/CN=${name}`,
    );
    writeFileSync(join(directory, `${name}.db`), '');
    writeFileSync(
      join(directory, `${name}.cnf`),
      `[ca]\ndefault_ca=d\n[d]\ndatabase=${name}.db\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n`,
    );
    return pair(name);
  };
  /** `ca` alone of openssl's commands takes both ends of the time that a certificate is good for. */
  const leaf = (name: string, of: string, subject: string, isExpired = false): Pair => {
    openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${subject}`);
    const times = isExpired ? ['-startdate', '20200101000000Z', '-enddate', '20200201000000Z'] : ['-days', '2'];
    const signer = ['-config', `${of}.cnf`, '-cert', `${of}.crt`, '-keyfile', `${of}.key`, '-batch', '-notext'];
    openssl('ca', ...signer, ...times, '-in', `${name}.csr`, '-out', `${name}.crt`);
    return pair(name);
  };
  return {
    ca: authority('ca'),
    otherCa: authority('other'),
    server: leaf('server', 'ca', 'localhost'),
    expiredServer: leaf('old-server', 'ca', 'localhost', true),
    client: leaf('client', 'ca', 'falcodrop'),
    expiredClient: leaf('old-client', 'ca', 'falcodrop', true),
    strangeClient: leaf('stranger', 'other', 'falcodrop'),
  };
}
