/** Where it listens on the network: an address and a port. */
import type { Server } from 'node:http';
import { FalcodropError } from '../../errors.ts';

export interface TcpPlace {
  /** An IP address. */
  readonly address: string;
  /** 0 takes a free one. */
  readonly port: number;
}

/** Rejects with `listen_failed`. */
export function listenTcp(server: Server, { address, port }: TcpPlace): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const [sentence, hint] = whyNotListening[error.code ?? ''] ?? [error.message, undefined];
      reject(new FalcodropError('listen_failed', `HTTP on ${address} port ${port}: ${sentence}`, hint, error));
    });
    server.listen({ host: address, port, exclusive: true }, () => {
      server.removeAllListeners('error');
      // EMFILE and the like on accept: the connection waits in the kernel, those we have go on.
      server.on('error', () => undefined);
      resolve();
    });
  });
}

const whyNotListening: Readonly<Record<string, readonly [sentence: string, hint: string]>> = {
  EADDRINUSE: [
    'the port is taken',
    'is a falcodrop running already? ("ss -ltnp" tells who has it); http.port names another',
  ],
  EACCES: ['ports below 1024 are for root', 'set http.port to 1024 or more'],
  EADDRNOTAVAIL: ['this host does not have that address', 'set http.address to one it has, or to 127.0.0.1'],
};
