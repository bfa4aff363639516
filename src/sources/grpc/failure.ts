/** What gRPC and TLS say when a connection fails, in words for the operator. */
import { X509Certificate } from 'node:crypto';
import { type ServiceError, status } from '@grpc/grpc-js';
import { FalcodropError } from '../../errors.ts';

export interface Failure {
  readonly problem: string;
  readonly hint: string | null;
}

const refused = 'Falco refuses our certificate';
const ourCa = 'grpc.tls.cert must be of the CA that is grpc.root_certs in falco.yaml';
const renew = 'make another one, and name it in grpc.tls.cert';
const hungUp: Failure = {
  problem: 'it hung up at once',
  hint: 'see grpc.address, and whether Falco goes on restarting',
};

const known: readonly (readonly [said: RegExp, problem: string, hint: string])[] = [
  [/ECONNREFUSED/, 'nobody listens there', 'is Falco running, with grpc: { enabled: true }?'],
  [
    /EACCES|EPERM/,
    'the socket may not be written to by this user',
    'Falco makes it for its own user alone: give it to the group of the service (docs/sources.md)',
  ],
  [/ENOTFOUND|EAI_AGAIN|Name resolution failed/, 'its name has no address', 'see the host in grpc.address'],
  [/alert certificate expired|SSL alert number 45/, `${refused}: it has expired`, renew],
  [
    /alert (unknown ca|bad certificate|certificate unknown|certificate required|handshake failure|decrypt error)|SSL alert number (40|42|46|48|51|116)/,
    refused,
    ourCa,
  ],
  [
    /CERT_HAS_EXPIRED|certificate has expired/,
    "Falco's certificate has expired",
    'make another one: grpc.cert_chain in falco.yaml',
  ],
  [
    /ERR_TLS_CERT_ALTNAME_INVALID|does not match certificate/,
    "Falco's certificate is for another name",
    'name that in grpc.tls.name, if it is your Falco',
  ],
  [
    /self[- ]signed|unable to (verify|get)|UNABLE_TO_|SELF_SIGNED/,
    "Falco's certificate is not of the CA in grpc.tls.ca",
    'if it is your Falco, name the CA that its certificate is of',
  ],
  [
    /wrong version number|packet length too long|before secure TLS connection|EPROTO/,
    'no TLS was spoken there, or it hung up at once',
    'see grpc.address, and grpc.bind_address in falco.yaml',
  ],
  [/Protocol error|HPE_|ERR_HTTP2/, 'what answers there speaks no gRPC', 'see grpc.address'],
];

/** `error` is what a call, the reading of certificates, or the TLS library threw; `cert` is ours, in PEM. */
export function failureOf(error: unknown, cert: string | null = null): Failure {
  const failure = inWords(error);
  if (cert === null || (failure !== hungUp && failure.problem !== refused)) return failure;
  // TLS 1.3 lets a client believe that it is in before the server has looked at its certificate; not every server says why
  // it hangs up then.
  const ends = endOf(cert);
  if (ends !== null && ends < Date.now()) {
    return { problem: `${refused}: it has expired (${new Date(ends).toISOString()})`, hint: renew };
  }
  return { problem: refused, hint: ourCa };
}

/** Milliseconds since 1970. */
function endOf(cert: string): number | null {
  try {
    return Date.parse(new X509Certificate(cert).validTo);
  } catch {
    return null;
  }
}

function inWords(error: unknown): Failure {
  if (error instanceof FalcodropError) return { problem: error.message, hint: error.hint ?? null };
  if (!isServiceError(error)) return { problem: error instanceof Error ? error.message : String(error), hint: null };
  if (error.code === status.UNIMPLEMENTED) {
    return { problem: 'this server has no alerts of Falco', hint: 'grpc.address must be that of a Falco up to 0.43' };
  }
  if (error.code === status.DEADLINE_EXCEEDED) return { problem: 'it does not answer', hint: null };
  if (error.code === status.RESOURCE_EXHAUSTED) {
    return { problem: `Falco or a message was too large: ${error.details}`, hint: null };
  }
  if (/Failed to connect/.test(error.details)) return hungUp;
  const found = known.find(([said]) => said.test(error.details));
  if (found !== undefined) return { problem: found[1], hint: found[2] };
  const last = /Last error: (?:Error: )?(.*?)\.? Resolution note:/s.exec(error.details)?.[1];
  // With the moment it failed, each time would be a new problem.
  return { problem: (last ?? error.details).replace(/ \(\d{4}-[\d:T.-]+Z\)/g, ''), hint: null };
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'details' in error && typeof error.details === 'string' && 'code' in error;
}
