/**
 * Posts alerts, one a line of stdin, over kept-alive connections: each connection's requests in one write, whose answers are
 * counted, so that next to nothing of the CPU is the sender's. Prints a line {begun, ended, refused}: CLOCK_MONOTONIC ns, and how
 * many were not taken.
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
const shares = sockets.map((_, nth) =>
  Buffer.from(
    bodies
      .filter((__, index) => index % sockets.length === nth)
      .map(
        (body) =>
          `POST /falco HTTP/1.1\r\nHost: ${host}:${port}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      )
      .join(''),
  ),
);
let taken = 0;
const begun = process.hrtime.bigint();
await Promise.all(
  sockets.map(async (socket, nth) => {
    let said = '';
    socket.setEncoding('latin1').on('data', (text: string) => {
      said += text;
    });
    const expected = bodies.filter((_, index) => index % sockets.length === nth).length;
    socket.write(shares[nth] ?? '');
    while (said.split('HTTP/1.1 ').length - 1 < expected) await once(socket, 'data');
    taken += said.split('HTTP/1.1 2').length - 1;
    socket.end();
  }),
);
const refused = bodies.length - taken;
process.stdout.write(`${JSON.stringify({ begun: String(begun), ended: String(process.hrtime.bigint()), refused })}\n`);
