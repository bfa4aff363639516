/**
 * Posts alerts, one a line of stdin, over kept-alive connections, each as fast as it is answered, as a Falco with several
 * outputs would. Prints a line {begun, ended, refused}: CLOCK_MONOTONIC ns, and how many were not taken.
 * Usage: post.ts HOST PORT CONNECTIONS
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

const [host, port, connections] = process.argv.slice(2);
if (host === undefined || port === undefined || connections === undefined) throw new Error('HOST PORT CONNECTIONS');
const bodies = readFileSync(0, 'utf8').trim().split('\n');
const sockets = await Promise.all(
  Array.from({ length: Number(connections) }, async () => {
    const socket = connect({ host, port: Number(port), noDelay: true });
    await once(socket, 'connect');
    return socket;
  }),
);
let refused = 0;
const begun = process.hrtime.bigint();
await Promise.all(
  sockets.map(async (socket) => {
    for (let body = bodies.pop(); body !== undefined; body = bodies.pop()) {
      const head = `POST /falco HTTP/1.1\r\nHost: ${host}:${port}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`;
      socket.write(head + body);
      const [answer] = (await once(socket, 'data')) as [Buffer];
      if (!/^HTTP\/1.1 2/.test(answer.toString('latin1'))) refused++;
    }
    socket.end();
  }),
);
process.stdout.write(`${JSON.stringify({ begun: String(begun), ended: String(process.hrtime.bigint()), refused })}\n`);
