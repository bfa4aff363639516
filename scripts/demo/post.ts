/**
 * The demo's Falco: posts alerts to falcodrop over one kept-alive connection, byte for byte as Falco's http_output (libcurl)
 * does. One alert a line on stdin; answers each with a line {status, begun, answered}, times in CLOCK_MONOTONIC ns.
 * Usage: post.ts HOST PORT
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

const [host, port] = process.argv.slice(2);
if (host === undefined || port === undefined) throw new Error('usage: post.ts HOST PORT');
const socket = connect({ host, port: Number(port), noDelay: true });
await once(socket, 'connect');

for await (const body of createInterface({ input: process.stdin })) {
  const head = [
    'POST /falco HTTP/1.1',
    `Host: ${host}:${port}`,
    'User-Agent: falcosecurity/falco',
    'Accept: */*',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
  ];
  const request = `${head.join('\r\n')}\r\n\r\n${body}`;
  const begun = process.hrtime.bigint();
  socket.write(request);
  const [answer] = (await once(socket, 'data')) as [Buffer];
  const answered = process.hrtime.bigint();
  const status = Number(answer.toString('latin1').split(' ')[1]);
  process.stdout.write(`${JSON.stringify({ status, begun: String(begun), answered: String(answered) })}\n`);
}
socket.end();
